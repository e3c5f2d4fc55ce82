"""Every system of a training that was measured, by speed and peak memory. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from saccade.study import Trial

if TYPE_CHECKING:
    from saccade.playbook.training.result import TrainingStory

SPEED, MEMORY = "samples_per_s", "peak_rss_mb"
# What a training pays for speed; a GPU's own memory counts where both systems have it.
COSTS = (MEMORY, "peak_device_mb")
Metrics = Mapping[str, float | None]


def training_pareto(story: TrainingStory, baseline: Metrics, best: Metrics) -> list[dict[str, Any]]:
    """Every system as a point, one for each configuration; the front is marked.

    Sets of changes that were timed on a cached batch are left out: they did not load, and neither
    their speed nor their memory compares with the others'. ``loss_drift`` is None where a system
    was not trained from the seeds. What stays is within the goal on it, and so it counts as
    learning the same.

    Args:
        story: of the run.
        baseline: metrics that were measured of it.
        best: likewise; empty where it was not measured.
    """
    points = _trial_points(story)
    points[story.task.baseline.hash] = _point(0, "baseline", True, baseline, 0.0)
    judged = story.judged
    if judged is not None and judged.config.hash != story.task.baseline.hash:
        drift = judged.drift.loss.estimate if judged.drift is not None else None
        label = " + ".join(kept.option.label for kept in judged.kept)
        points[judged.config.hash] = _point(None, label, True, best, drift) | {"best": True}
    found = [p for p in points.values() if p[SPEED] is not None and p[MEMORY] is not None]
    found.sort(key=lambda p: (p["trial"] != 0, not p["best"], p["trial"] or 0))
    rivals = [point for point in found if not point["refused"]]
    for point in found:
        beaten = any(_beats(other, point) for other in rivals)
        point["front"] = not point["refused"] and not beaten
    return found


def _trial_points(story: TrainingStory) -> dict[str, dict[str, Any]]:
    """Hash of a configuration → its last measurement with loading."""
    refused = {taken.label for taken in story.judged.taken_back} if story.judged else set()
    return {
        trial.config_hash: _point(trial.number, trial.change, trial.kept, trial.metrics, None)
        | {"refused": not refused.isdisjoint(trial.details.get("set", ()))}
        for trial in story.trials
        if _loads(trial)
    }


def _loads(trial: Trial) -> bool:
    return trial.details.get("timed") == "block" and trial.metrics.get(SPEED) is not None


def _point(
    trial: int | None, label: str, kept: bool, metrics: Metrics, drift: float | None
) -> dict[str, Any]:
    return {
        "trial": trial,
        "label": label,
        SPEED: metrics.get(SPEED),
        **{name: metrics.get(name) for name in COSTS},
        "loss_drift": drift,
        "kept": kept,
        "best": False,
        # A change of it was taken back after it was measured, mostly because it learns worse.
        "refused": False,
    }


def _beats(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """At least as good in all that both have; what was not judged beats nothing that was."""
    if first["loss_drift"] is None and second["loss_drift"] is not None:
        return False
    known = [name for name in COSTS if first[name] is not None and second[name] is not None]
    pairs = [(first[SPEED], second[SPEED]), *((-first[n], -second[n]) for n in known)]
    return any(a > b for a, b in pairs) and all(a >= b for a, b in pairs)
