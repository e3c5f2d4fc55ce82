"""What a device measured with a kit, for `saccade compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saccade.deploy.kit.device import not_the_target
from saccade.deploy.kit.judge import compare_two, resolution_of, rows
from saccade.deploy.kit.read import Kit, Measurements, check_match, read_kit, read_measurements
from saccade.errors import InputError
from saccade.optimize.change import Objective
from saccade.playbook.measured import SCOPE


def compare_measured(
    path: Path, kit_folder: Path, first: str | None, second: str | None, objective: Objective
) -> dict[str, Any]:
    """Two candidates against each other, or all of them against the reference.

    Raises:
        InputError: the file is damaged or of another kit, or a candidate was not measured.
    """
    kit, measured = read_kit(kit_folder), read_measurements(path)
    check_match(kit, measured)
    head = {
        "device": measured.device,
        "environment": dict(measured.environment),
        "not_the_target": not_the_target(kit.document["target"], measured.environment),
        "kit_id": measured.kit_id,
        "complete": measured.complete,
        "reference": measured.reference,
        "resolution": resolution_of(measured, objective),
        "objective": objective,
        "scope": f"Measured was {SCOPE}",
    }
    if first is None:
        found = rows(kit, measured, objective)
        return {**head, "candidates": [row.document() for row in found]}
    return {**head, **_two(kit, measured, first, second or measured.reference, objective)}


def _two(
    kit: Kit, measured: Measurements, first: str, second: str, objective: Objective
) -> dict[str, Any]:
    for name in (first, second):
        if name not in kit.candidates:
            known = ", ".join(kit.candidates)
            raise InputError(f"The kit has no candidate '{name}'. Known: {known}.")
    comparison = compare_two(measured, first, second, objective)
    if comparison is None:
        raise InputError(
            f"'{first}' and '{second}' were not both measured. `saccade compare --measurements` "
            "without candidates says what became of each."
        )
    verdict = {"faster": "second is faster", "slower": "first is faster"}
    ratio = comparison.ratio
    return {
        "verdict": verdict.get(comparison.verdict, "not distinguishable"),
        "ratio": ratio.value,
        "interval": [ratio.interval.low, ratio.interval.high],
        "reason": f"{comparison.reason}; measured on {measured.device}",
    }
