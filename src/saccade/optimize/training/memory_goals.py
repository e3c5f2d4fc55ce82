"""Goals on a training's memory: what less of it may cost in time. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from saccade.goals import Goal
from saccade.optimize.metrics import Estimate
from saccade.train.memory import PEAKS

Metrics = Mapping[str, Estimate]
# Of two peaks, what must lie between them to be worth a change: they vary by a few hundredths from
# run to run. For the same reason a goal counts as met only where this share of it is enough.
LEAST_SHRINK, SAFE = 0.97, 0.98
# The speed that a change has to leave which only comes closer to a goal: where goals of time are
# met, or there are none; and where one is missed already.
LEAST_SPEED, LEAST_SPEED_WHERE_SLOW = 0.5, 0.9


def memory_goals(goals: Sequence[Goal]) -> tuple[Goal, ...]:
    """Those on peak memory; not those on how much it may grow."""
    return tuple(goal for goal in goals if goal.metric in PEAKS)


def needs_less(goal: Goal, metrics: Metrics) -> bool:
    """Whether a goal on memory is missed, or met so closely that the next run may miss it."""
    value = value_of(metrics, goal.metric)
    return value is not None and value > SAFE * goal.bound


def why_worth_it(
    goal: Goal, goals: Sequence[Goal], before: Metrics, after: Metrics, speed: float
) -> tuple[bool, str]:
    """Whether a configuration may take another's place because it needs less memory, and why.

    Args:
        goal: on memory, which the one before misses.
        goals: all of the run.
        before: metrics of the configuration now.
        after: of the one that may take its place.
        speed: samples per second of the latter over the former's.
    """
    old, new = value_of(before, goal.metric), value_of(after, goal.metric)
    if old is None or new is None:
        return False, f"{goal.metric} was not measured"
    said = f"{goal.metric} {old:.0f} to {new:.0f} MB"
    if new > LEAST_SHRINK * old:
        return False, f"{said}: it saves less than {1 - LEAST_SHRINK:.0%}"
    lost = next((g for g in goals if is_met(g, before) and is_met(g, after) is False), None)
    if lost is not None:
        return False, f"{said}, but it loses the goal {lost.name}"
    if not needs_less(goal, after):
        return True, f"{said} meets the goal {goal.name}"
    slow = any(is_met(g, after) is False for g in goals if g.metric not in PEAKS)
    least = LEAST_SPEED_WHERE_SLOW if slow else LEAST_SPEED
    if speed < least:
        return False, f"{said}, not enough for {goal.name} and too slow for that"
    return True, f"{said} comes closer to the goal {goal.name}"


def is_met(goal: Goal, metrics: Metrics) -> bool | None:
    """Whether a goal is met by the value alone; None where these metrics do not tell."""
    value = None if goal.is_drop else value_of(metrics, goal.metric)
    return None if value is None else goal.status(value, None, None) == "met"


def value_of(metrics: Metrics, name: str) -> float | None:
    """A metric's value; None where it was not measured."""
    return metrics[name].value if name in metrics else None
