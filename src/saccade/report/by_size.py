"""Accuracy by object size as rows: of the best system, and of what changed the resolution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saccade.report import quantities as q
from saccade.report.document import mapping, records

SIZES = {"small": "small, below 32²", "medium": "medium, 32² to 96²", "large": "large, above 96²"}


def size_rows(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """One row per system and size: whose, which objects, how many, and both accuracies as text.

    The best system is judged on the report images, trials on those for selection.
    """
    rows = _rows("Best (report images)", mapping(mapping(result.get("best")).get("by_size")))
    for trial in records(result.get("trials")):
        name = f"Trial {trial.get('trial')}: {trial.get('change', '')}"
        rows += _rows(name, mapping(trial.get("by_size")))
    return rows


def size_columns(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row per system for the console: whose, then small, medium and large objects.

    A cell has both accuracies. Empty where nothing that was tried looks at other pixels: then
    size is not what could decide.
    """
    tried = [trial for trial in records(result.get("trials")) if trial.get("by_size")]
    if not tried:
        return []
    best = mapping(mapping(result.get("best")).get("by_size"))
    found = [(f"{t.get('trial')}  {t.get('change', '')}", mapping(t.get("by_size"))) for t in tried]
    if best:
        found.append(("best, on unseen images", best))
    return [(name, *(_cell(mapping(sizes.get(size))) for size in SIZES)) for name, sizes in found]


def _cell(row: Mapping[str, Any]) -> str:
    if q.number(row.get("objects")) is None:
        return q.MISSING
    before, after = (q.metric_text("map50_95", row.get(s)) for s in ("baseline", "candidate"))
    return f"{before} → {after}"


def _rows(system: str, sizes: Mapping[str, Any]) -> list[dict[str, str]]:
    found = []
    for size, label in SIZES.items():
        row = mapping(sizes.get(size))
        objects = q.number(row.get("objects"))
        if objects is None:
            continue
        found.append(
            {
                "system": system,
                "size": label,
                "objects": q.fixed(objects, 0),
                "before": q.metric_text("map50_95", row.get("baseline")),
                "after": q.metric_text("map50_95", row.get("candidate")),
            }
        )
    return found
