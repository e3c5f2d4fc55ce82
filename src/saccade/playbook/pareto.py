"""Every judged configuration of a run by speed and accuracy. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from saccade.optimize.change import Objective
from saccade.optimize.metrics import values

if TYPE_CHECKING:
    from saccade.playbook.result import Story

ACCURACY = ("accuracy", "accuracy_low", "accuracy_high")


def pareto(story: Story) -> list[dict[str, Any]]:
    """Every judged configuration as a point; the front is marked."""
    points: list[dict[str, Any]] = []
    # Accuracy and its ends, by the number of the trial.
    judged: dict[int, dict[str, float]] = {}
    start = _baseline_point(story)
    if start is not None:
        points.append(start)
        judged[0] = {name: start[name] for name in ACCURACY}
    for trial in story.trials:
        drop = trial.drop
        accuracy = trial.metrics.get(drop.metric) if drop else None
        if drop is not None and accuracy is not None:
            best = accuracy + drop.estimate
            ends = (accuracy, best - drop.upper, best - drop.lower)
            judged[trial.number] = dict(zip(ACCURACY, ends, strict=True))
        elif trial.kept and trial.parent in judged:
            # Found the same boxes as its parent, so it is as accurate.
            judged[trial.number] = judged[trial.parent]
        else:
            continue
        points.append(
            {
                "trial": trial.number,
                "label": trial.change,
                "throughput_fps": trial.metrics.get("throughput_fps"),
                "latency_ms": trial.metrics.get("latency_ms.p50"),
                **judged[trial.number],
                "kept": trial.kept,
            }
        )
    places = [(_speed(point, story.job.objective), point["accuracy"]) for point in points]
    for point, place in zip(points, places, strict=True):
        point["front"] = not any(_beats(other, place) for other in places)
    return points


def _speed(point: Mapping[str, Any], objective: Objective) -> float:
    """Larger is better, by what is improved."""
    if objective == "throughput":
        return float(point["throughput_fps"] or 0)
    return 1 / float(point["latency_ms"] or "inf")


def _beats(first: tuple[float, float], second: tuple[float, float]) -> bool:
    return first != second and all(a >= b for a, b in zip(first, second, strict=True))


def _baseline_point(story: Story) -> dict[str, Any] | None:
    """The baseline on the data that the trials were judged on."""
    if story.guard is None:
        return None
    name = story.guard.base
    accuracy = 1.0 if name == "agreement" else story.baseline_accuracy.get(name)
    if accuracy is None:
        return None
    speed = values(story.baseline.metrics)
    return {
        "trial": 0,
        "label": "baseline",
        "throughput_fps": speed["throughput_fps"],
        "latency_ms": speed["latency_ms.p50"],
        "accuracy": accuracy,
        "accuracy_low": accuracy,
        "accuracy_high": accuracy,
        "kept": True,
    }
