"""Two tasks on the same frames: what became of each, and what could not be shared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saccade.report import quantities as q
from saccade.report import sections
from saccade.report.document import Drop, mapping, read_drop, records, texts


@dataclass(frozen=True)
class TaskRow:
    """One task of two.

    Attributes:
        task: for people.
        model: file or name.
        metric: what it is judged by.
        before: the naive pipeline's accuracy.
        after: that of the best system.
        drop: with its bounds.
        allowed: by its goal.
        own: how much faster it became in its own study, and by what.
        run: folder of that study.
    """

    task: str
    model: str
    metric: str
    before: str
    after: str
    drop: str
    allowed: str
    own: str
    run: str


def task_rows(result: Mapping[str, Any]) -> list[TaskRow]:
    """A row per task; nothing where the run was about one."""
    return [_row(entry) for entry in records(result.get("systems"))]


def _row(entry: Mapping[str, Any]) -> TaskRow:
    metric = str(entry.get("metric") or "")
    own = mapping(entry.get("own"))
    drop = read_drop(entry.get("drop"))
    speedup = q.number(own.get("speedup"))
    changes = ", ".join(texts(own.get("changes")))
    improved = f"{q.ratio(speedup)} by {changes}" if speedup and changes else changes
    return TaskRow(
        task=str(entry.get("task") or "").replace("_", " "),
        model=str(entry.get("model") or "").replace("\\", "/").rpartition("/")[2],
        metric=q.metric_label(metric),
        before=q.metric_text(metric, entry.get("baseline")),
        after=q.metric_text(metric, entry.get("best")),
        drop=_drop_text(drop),
        allowed="" if q.number(entry.get("allowed")) is None else f"{entry['allowed']:g}",
        own=improved or "nothing kept",
        run=str(own.get("run") or ""),
    )


def _drop_text(drop: Drop | None) -> str:
    return sections.drop_text(drop) if drop is not None else q.MISSING


def not_shared(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Ways of sharing that could not be tried, each with the reason."""
    return [
        (str(entry.get("change") or ""), str(entry.get("reason") or ""))
        for entry in records(result.get("inapplicable"))
    ]
