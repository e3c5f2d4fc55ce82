"""`result.json` as the report reads it: loaded, and what is to be shown picked out.

Pure but for `load_run`.

A run can be interrupted at any moment, so every part may be missing; what is missing is
an empty value here and a section left out in the report, never an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from saccade.errors import InputError
from saccade.report.quantities import interval, number

RESULT_FILE = "result.json"
SCHEMA_VERSION = 1
TONES = {
    "better": "good",
    "met": "good",
    "worse": "bad",
    "broke a goal": "bad",
    "failed": "bad",
    "not_met": "bad",
    "inconclusive": "warn",
}


@dataclass(frozen=True)
class Drop:
    """A loss of accuracy against the baseline; positive is worse."""

    estimate: float | None
    lower: float | None
    upper: float | None
    level: float | None = None
    images: int | None = None
    data: str = ""


@dataclass(frozen=True)
class Change:
    """One trial as the report shows it.

    Attributes:
        trial: number in the study, None where the document has none.
        name: what was changed.
        verdict: as in `saccade.optimize`, lower case with spaces.
        reason: why the verdict is what it is.
        predicted: predicted gain, a ratio; above 1 is better.
        basis: what the prediction rests on.
        achieved: measured gain.
        interval: of the measured gain.
        kept: whether it became part of the best system at the time.
    """

    trial: int | None
    name: str
    verdict: str = ""
    reason: str = ""
    predicted: float | None = None
    basis: str = ""
    achieved: float | None = None
    interval: tuple[float, float] | None = None
    throughput_fps: float | None = None
    latency_ms: float | None = None
    accuracy: float | None = None
    drop: Drop | None = None
    wall_s: float | None = None
    kept: bool = False
    parent: int | None = None


@dataclass(frozen=True)
class Point:
    """One system on the speed–accuracy plane.

    Attributes:
        trial: number in the study, 0 for the baseline.
        label: what it is.
        speed: on the axis of `speed_metric`.
        accuracy: 0-1.
        low: lower end of the accuracy's interval, None where there is none.
        high: upper end.
        role: ``baseline``, ``best``, ``front`` or ``tried``.
        kept: False draws it hollow.
    """

    trial: int | None
    label: str
    speed: float
    accuracy: float
    low: float | None
    high: float | None
    role: str
    kept: bool = True


def load_run(folder: str | Path) -> dict[str, Any]:
    """Read the result of a run.

    Args:
        folder: the run folder, the one given to ``saccade optimize --out``.

    Returns:
        The document of `result.json`, and the ``folder`` it was read from.

    Raises:
        InputError: there is no result, it is not what saccade wrote, or it is too new.
    """
    path = Path(folder) / RESULT_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"There is no readable {RESULT_FILE} in '{folder}' ({type(error).__name__}). Expected "
            "the folder given to 'saccade optimize --out'; run that first, or resume it."
        ) from error
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InputError(
            f"'{path}' is not valid JSON: {error}. It was cut short or edited; running "
            "'saccade optimize' again with the same --out resumes the run and writes it anew."
        ) from error
    return {**_checked(document, path), "folder": str(folder)}


def _checked(document: Any, path: Path) -> dict[str, Any]:
    if not isinstance(document, dict) or not {"status", "baseline", "goals"} & document.keys():
        raise InputError(
            f"'{path}' is not the result of a run: it has no status, goals or baseline. "
            "Give the folder that 'saccade optimize --out' wrote."
        )
    version = number(document.get("schema_version", SCHEMA_VERSION))
    if version is None or version > SCHEMA_VERSION:
        raise InputError(
            f"'{path}' has schema_version {document.get('schema_version')!r}; this saccade reads "
            f"up to {SCHEMA_VERSION}. Use the saccade that made it, or a newer one."
        )
    return document


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def records(value: Any) -> list[Mapping[str, Any]]:
    """The mappings among the items of ``value``; nothing where it is not a list."""
    return [item for item in value if isinstance(item, Mapping)] if _listed(value) else []


def texts(value: Any) -> list[str]:
    """The items of ``value`` as strings; nothing where it is not a list."""
    return [str(item) for item in value] if _listed(value) else []


def metrics(result: Mapping[str, Any], which: str) -> Mapping[str, Any]:
    """Metrics of the ``"baseline"`` or the ``"best"`` system."""
    return mapping(mapping(result.get(which)).get("metrics"))


def tone(verdict: str) -> str:
    """``good``, ``bad``, ``warn`` or ``neutral``: which colour a verdict or status is shown in."""
    return TONES.get(verdict, "neutral")


def read_drop(value: Any) -> Drop | None:
    """A drop as the document states it, None where there is none."""
    found = mapping(value)
    if number(found.get("estimate")) is None and number(found.get("upper")) is None:
        return None
    return Drop(
        estimate=number(found.get("estimate")),
        lower=number(found.get("lower")),
        upper=number(found.get("upper")),
        level=number(found.get("level")),
        images=_whole(found.get("images")),
        data=str(found.get("data") or ""),
    )


def changes(result: Mapping[str, Any]) -> list[Change]:
    """All trials in their order, the baseline left out."""
    found = [_change(record) for record in records(result.get("trials"))]
    return [change for change in found if change.trial != 0]


def kept_changes(result: Mapping[str, Any]) -> list[Change]:
    """The changes that lead from the baseline to the best system, in order.

    Follows the parents from the best trial; where that chain is broken (or there is no best),
    all trials marked as kept.
    """
    by_number = {change.trial: change for change in changes(result)}
    chain: list[Change] = []
    at = _whole(mapping(result.get("best")).get("trial"))
    while at in by_number and by_number[at] not in chain:
        chain.insert(0, by_number[at])
        at = by_number[at].parent
    if at == 0 or (chain and at is None):
        return chain
    return [change for change in by_number.values() if change.kept]


def rejected_changes(result: Mapping[str, Any]) -> list[Change]:
    """Everything that was tried and not taken, with what its trial measured."""
    by_number = {change.trial: change for change in changes(result) if change.trial is not None}
    listed = records(result.get("rejected"))
    if not listed:
        kept = {change.trial for change in kept_changes(result)}
        return [change for n, change in by_number.items() if n not in kept and not change.kept]
    rejected = []
    for record in listed:
        own = _change(record)
        trial = by_number.get(own.trial, own) if own.trial is not None else own
        rejected.append(
            replace(
                trial,
                name=own.name or trial.name,
                verdict=own.verdict or trial.verdict,
                reason=own.reason or trial.reason,
                kept=False,
            )
        )
    return rejected


def speed_metric(result: Mapping[str, Any]) -> str:
    """The speed axis of the front: ``latency_ms`` where that is the objective."""
    objective = str(result.get("objective") or "")
    return "latency_ms" if objective.startswith("latency_ms") else "throughput_fps"


def accuracy_metric(result: Mapping[str, Any]) -> str:
    """The metric that guards accuracy."""
    named = mapping(result.get("guard")).get("metric")
    if named:
        return str(named)
    known = metrics(result, "baseline")
    return next((m for m in ("map50_95", "agreement") if number(known.get(m)) is not None), "")


def front_points(result: Mapping[str, Any]) -> list[Point]:
    """Every system with a speed and an accuracy: baseline, best, front, and the others tried."""
    best = _whole(mapping(result.get("best")).get("trial"))
    found: dict[int | None, Point] = {}
    unnumbered: list[Point] = []
    for source, role in (("pareto", "front"), ("trials", "tried")):
        for record in records(result.get(source)):
            point = _point(record, speed_metric(result), role, best)
            if point is not None and point.trial is None:
                unnumbered.append(point)
            elif point is not None:
                found.setdefault(point.trial, point)
    for number_, which in ((0, "baseline"), (best, "best")):
        point = _point_of_metrics(result, which, number_)
        if point is not None:
            found.setdefault(number_, point)
    return [*found.values(), *unnumbered]


def pareto_front(points: list[Point], faster_is_more: bool) -> list[Point]:
    """The points that no other beats in both speed and accuracy, by ascending ``speed``."""
    fastest_first = sorted(
        points, key=lambda p: (-p.speed if faster_is_more else p.speed, -p.accuracy)
    )
    front: list[Point] = []
    for point in fastest_first:
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return sorted(front, key=lambda p: p.speed)


def _listed(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _whole(value: Any) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def _change(record: Mapping[str, Any]) -> Change:
    return Change(
        trial=_whole(record.get("trial")),
        parent=_whole(record.get("parent")),
        name=str(record.get("change") or ""),
        verdict=str(record.get("verdict") or ""),
        reason=str(record.get("reason") or ""),
        predicted=number(record.get("predicted_gain")),
        basis=str(record.get("prediction_basis") or ""),
        achieved=number(record.get("achieved_gain")),
        interval=interval(record.get("achieved_interval")),
        throughput_fps=number(record.get("throughput_fps")),
        latency_ms=number(record.get("latency_ms")),
        accuracy=number(record.get("accuracy")),
        drop=read_drop(record.get("accuracy_drop")),
        wall_s=number(record.get("wall_s")),
        kept=record.get("kept") is True,
    )


def _point(record: Mapping[str, Any], speed: str, role: str, best: int | None) -> Point | None:
    x, y = number(record.get(speed)), number(record.get("accuracy"))
    if x is None or y is None:
        return None
    trial = _whole(record.get("trial"))
    special = {0: "baseline"} if best is None else {best: "best", 0: "baseline"}
    return Point(
        trial=trial,
        label=str(record.get("label") or record.get("change") or ""),
        speed=x,
        accuracy=y,
        low=number(record.get("accuracy_low")),
        high=number(record.get("accuracy_high")),
        role=special.get(trial, role) if trial is not None else role,
        kept=record.get("kept") is not False,
    )


def _point_of_metrics(result: Mapping[str, Any], which: str, trial: int | None) -> Point | None:
    found = metrics(result, which)
    metric = speed_metric(result)
    speeds = (metric, f"{metric}.mean", f"{metric}.p50")
    x = next((n for n in (number(found.get(key)) for key in speeds) if n is not None), None)
    y = number(found.get(accuracy_metric(result)))
    if x is None or y is None:
        return None
    return Point(trial, "", x, y, None, None, which)
