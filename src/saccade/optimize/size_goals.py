"""Goals on size (``model_mb``, ``peak_rss_mb``): what a smaller configuration may cost in speed."""

from __future__ import annotations

from saccade.goals import Goal
from saccade.optimize.metrics import Estimate, speed_metrics
from saccade.optimize.race import RaceResult

SIZES = ("model_mb", "peak_rss_mb")
# Of two sizes, what must lie between them to be worth a change: peak memory varies by a few
# hundredths from run to run.
LEAST_SHRINK = 0.97
# What a change may cost in speed that brings a missed goal of size closer without meeting it.
ALLOWED_RATIO = 0.9


def why_worth_its_size(
    goals: tuple[Goal, ...],
    result: RaceResult,
    before_mb: float,
    after_mb: float,
) -> str:
    """Why the candidate's size makes up for not being faster; empty where it does not.

    A goal of size that the incumbent misses is met by the candidate, or brought closer while the
    goals of speed are met (where there are none, at little cost in speed), and no goal of speed is
    lost for it.

    Args:
        goals: all of the run.
        result: candidate against incumbent.
        before_mb: size of the incumbent's models.
        after_mb: size of the candidate's.
    """
    before = speed_metrics(result.reference, before_mb)
    after = speed_metrics(result.candidate, after_mb)
    if any(_lost(goal, before, after) for goal in goals):
        return ""
    for goal in goals:
        if goal.metric not in SIZES:
            continue
        old, new = _value(before, goal.metric), _value(after, goal.metric)
        if old <= goal.bound or new > LEAST_SHRINK * old:
            continue
        cheap = result.comparison.ratio.value >= ALLOWED_RATIO or _fast_enough(goals, after)
        if new <= goal.bound or cheap:
            how = "meets" if new <= goal.bound else "comes closer to"
            return f"{goal.metric} {old:.1f} to {new:.1f} {how} the goal {goal.name}"
    return ""


def why_too_large(
    goals: tuple[Goal, ...],
    result: RaceResult,
    before_mb: float,
    after_mb: float,
) -> str:
    """Why the candidate may not stay however fast it is; empty where its size is no reason.

    It loses a goal of size that the incumbent meets, or makes worse one that is missed while no
    goal of speed is: then size is what is left to win.
    """
    before = speed_metrics(result.reference, before_mb)
    after = speed_metrics(result.candidate, after_mb)
    for goal in goals:
        if goal.metric not in SIZES:
            continue
        old, new = _value(before, goal.metric), _value(after, goal.metric)
        grew = new > goal.bound and LEAST_SHRINK * new > old
        if grew and (old <= goal.bound or not _too_slow(goals, before)):
            what = "loses" if old <= goal.bound else "is further from"
            return f"{goal.metric} {old:.1f} to {new:.1f} {what} the goal {goal.name}"
    return ""


def _fast_enough(goals: tuple[Goal, ...], metrics: dict[str, Estimate]) -> bool:
    """Whether there are goals of speed and all of them are met."""
    speeds = _speed_goals(goals, metrics)
    return bool(speeds) and not _too_slow(goals, metrics)


def _too_slow(goals: tuple[Goal, ...], metrics: dict[str, Estimate]) -> bool:
    """Whether a goal of speed is missed."""
    values = [(goal, metrics[goal.metric].value) for goal in _speed_goals(goals, metrics)]
    return any(v is None or goal.status(v, None, None) != "met" for goal, v in values)


def _speed_goals(goals: tuple[Goal, ...], metrics: dict[str, Estimate]) -> list[Goal]:
    return [g for g in goals if g.metric in metrics and g.metric not in SIZES and not g.is_drop]


def _lost(goal: Goal, before: dict[str, Estimate], after: dict[str, Estimate]) -> bool:
    """Whether a goal that needs no data was met and is not any more."""
    if goal.is_accuracy or goal.is_drop:
        return False
    held, holds = before.get(goal.metric), after.get(goal.metric)
    if held is None or holds is None or held.value is None or holds.value is None:
        return False
    met = goal.status(held.value, None, None) == "met"
    return met and goal.status(holds.value, None, None) != "met"


def _value(metrics: dict[str, Estimate], name: str) -> float:
    found = metrics[name].value
    return float("inf") if found is None else found
