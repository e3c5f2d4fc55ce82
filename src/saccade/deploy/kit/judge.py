"""What a device's measurements say: ratios with intervals, by saccade's own statistics. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saccade.deploy.kit.read import TWIN, Kit, Measurements
from saccade.measurement import Block
from saccade.optimize.change import Objective
from saccade.optimize.metrics import Estimate, speed_metrics
from saccade.optimize.race import AA_LEVEL, speed
from saccade.statistics import Comparison, compare, noise_floor

# A candidate needs this many rounds beside its partner before anything is said about it.
MIN_ROUNDS = 3


@dataclass(frozen=True)
class Row:
    """One candidate of a kit, as measured.

    Attributes:
        id: of the candidate.
        status: ``measured``, ``skipped``, ``failed`` or ``wrong outputs``.
        reason: why it was not measured or does not count, else what the comparison says.
        comparison: against the reference; None where it was not measured.
        metrics: of inference on the device.
        error: of its outputs, against what the same file gave here.
    """

    id: str
    status: str
    reason: str
    comparison: Comparison | None = None
    metrics: Mapping[str, Estimate] | None = None
    error: float | None = None

    @property
    def counts(self) -> bool:
        """It was measured and computes what it should."""
        return self.status == "measured" and self.comparison is not None

    def document(self) -> dict[str, Any]:
        """JSON-ready."""
        found = self.comparison
        return {
            "candidate": self.id,
            "status": self.status,
            "reason": self.reason,
            "verdict": found.verdict if found else None,
            "ratio": found.ratio.value if found else None,
            "interval": [found.ratio.interval.low, found.ratio.interval.high] if found else None,
            "error": self.error,
            "metrics": {
                name: {"value": e.value, "low": e.low, "high": e.high}
                for name, e in (self.metrics or {}).items()
            },
        }


def resolution_of(measured: Measurements, objective: Objective) -> float:
    """The smallest difference the device resolved, from the reference against its twin.

    Infinite where the twin was not measured: nothing can be told from noise then.
    """
    pairs = _pairs(measured, measured.reference, TWIN, objective)
    return noise_floor(pairs, AA_LEVEL) if len(pairs) >= MIN_ROUNDS else float("inf")


def compare_two(
    measured: Measurements, first: str, second: str, objective: Objective
) -> Comparison | None:
    """The second against the first; None where they share too few rounds.

    Candidates of different groups are compared through the reference, which ran in both: each is
    taken relative to the reference of its own round.
    """
    pairs = _pairs(measured, second, first, objective)
    if len(pairs) < MIN_ROUNDS:
        return None
    resolution = resolution_of(measured, objective)
    return compare([a for a, _ in pairs], [b for _, b in pairs], resolution)


def _pairs(
    measured: Measurements, first: str, second: str, objective: Objective
) -> list[tuple[float, float]]:
    """Speeds of both in the rounds that both have, relative to the reference where they differ."""
    a, b = _by_group(measured, first, objective), _by_group(measured, second, objective)
    for group in sorted(a.keys() & b.keys()):
        rounds = sorted(a[group].keys() & b[group].keys())
        if rounds:
            return [(a[group][index], b[group][index]) for index in rounds]
    reference = _by_group(measured, measured.reference, objective)
    x, y = _relative(a, reference), _relative(b, reference)
    return [(x[index], y[index]) for index in sorted(x.keys() & y.keys())]


def _relative(
    speeds: Mapping[int, Mapping[int, float]], reference: Mapping[int, Mapping[int, float]]
) -> dict[int, float]:
    """Round → speed over that of the reference in the same round and group."""
    found: dict[int, float] = {}
    for group, rounds in speeds.items():
        for index, value in rounds.items():
            beside = reference.get(group, {}).get(index)
            if beside:
                found.setdefault(index, value / beside)
    return found


def _by_group(
    measured: Measurements, name: str, objective: Objective
) -> dict[int, dict[int, float]]:
    found: dict[int, dict[int, float]] = {}
    for entry in measured.blocks:
        if entry.candidate == name and entry.block.frames:
            found.setdefault(entry.group, {})[entry.round] = speed(entry.block, objective)
    return found


def rows(kit: Kit, measured: Measurements, objective: Objective) -> tuple[Row, ...]:
    """Every candidate of the kit, fastest first, what was not measured last."""
    found = [_row(kit, entry, measured, objective) for entry in kit.document["candidates"]]
    return tuple(
        sorted(found, key=lambda row: -row.comparison.ratio.value if row.comparison else 0.0)
    )


def _row(kit: Kit, entry: Mapping[str, Any], measured: Measurements, objective: Objective) -> Row:
    name = entry["id"]
    said = measured.candidates.get(name)
    if said is None:
        return Row(name, "skipped", "it was not asked for on the device")
    if said["status"] != "measured":
        return Row(name, said["status"], said.get("reason", ""))
    error = float(said["error"])
    blocks = blocks_of(measured, name)
    comparison = compare_two(measured, measured.reference, name, objective)
    if comparison is None:
        return Row(name, "failed", f"fewer than {MIN_ROUNDS} rounds were measured", error=error)
    metrics = device_metrics(blocks, kit.document["files"][entry["file"]]["size_mb"])
    if not error <= entry["tolerance"]:
        reason = (
            f"its outputs on the device are off by {error:.2g}, more than the "
            f"{entry['tolerance']:g} that rounding explains"
        )
        return Row(name, "wrong outputs", reason, comparison, metrics, error)
    reason = comparison.reason
    if name == measured.reference:
        reason = "what the others are compared with"
    return Row(name, "measured", reason, comparison, metrics, error)


def blocks_of(measured: Measurements, name: str) -> tuple[Block, ...]:
    """All blocks of one candidate."""
    return tuple(entry.block for entry in measured.blocks if entry.candidate == name)


def device_metrics(blocks: tuple[Block, ...], model_mb: float) -> dict[str, Estimate]:
    """Metrics of inference on the device; what the script could not see is left out."""
    found = speed_metrics(blocks, model_mb)
    unseen = {"busy_share"}
    if not any(block.cpu_s for block in blocks):
        unseen.add("core_ms_per_frame")
    if not any(block.peak_rss_mb for block in blocks):
        unseen.add("peak_rss_mb")
    return {name: value for name, value in found.items() if name not in unseen}
