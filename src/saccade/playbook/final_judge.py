"""Accuracy on the report data, which nothing has looked at before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from saccade.data.contract import Dataset
from saccade.errors import DataError
from saccade.goals import METRICS, Goal
from saccade.optimize.job import Job, absolute_goals, guard_goals
from saccade.optimize.referee import Answering
from saccade.study import Drop
from saccade.validate.blocks import unit_weights
from saccade.validate.contract import Scored, compared_by_size
from saccade.validate.drop_bound import (
    LEVEL,
    DropBound,
    figure_itself,
    kept_share,
    paired_drop,
    same_system,
)
from saccade.validate.guard import FinalBound, final_bound, lost_goal
from saccade.validate.per_class import ClassDrop, per_class_drops
from saccade.validate.referee import VIDEO_FRAMES, as_dataset, frames_of, judge_of, results_on


@dataclass(frozen=True)
class Accuracy:
    """Both systems on the report data.

    Attributes:
        metrics: of the candidate, by name.
        baseline: of the baseline.
        drops: metric → drop with its bounds at the attempt's level.
        bound: the decision on the guarding goal, or on another goal of accuracy that does not
            hold; first of all one whose estimate is beyond what is allowed.
        classes: per-class drops, where there are labels.
        by_size: accuracy by object size, see `saccade.validate.contract.compared_by_size`.
        bounds: metric → lower and upper bound of the candidate's own figure, each one-sided at the
            attempt's level; for ``agreement``, where the baseline's figure is 1 by definition,
            they follow from the drop.
    """

    metrics: dict[str, float]
    baseline: dict[str, float]
    drops: dict[str, Drop]
    bound: FinalBound | None
    classes: tuple[ClassDrop, ...] = ()
    by_size: dict[str, dict[str, float]] = field(default_factory=dict)
    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)


class FinalJudge:
    """Accuracy on the report data; the baseline is run on them once."""

    def __init__(
        self, job: Job, guard: Goal, baseline: Answering, frame_hw: tuple[int, int]
    ) -> None:
        self._job = job
        self._guards = (guard, *(goal for goal in guard_goals(job) if goal != guard))
        self._absolute = absolute_goals(job)
        if job.roles is not None and job.roles.report is not None:
            self._dataset: Dataset = job.roles.report
            self._results_of: Callable[[Answering], Any] = self._on_images
            self._reference = self._results_of(baseline)
        else:
            self._results_of = lambda runner: frames_of(runner, VIDEO_FRAMES, "report")
            self._reference = self._results_of(baseline)
            in_a_row = job.baseline.tracker is not None
            count = len(self._reference)
            self._dataset = as_dataset(job.source, count, frame_hw, in_a_row)
        self._judge = judge_of(baseline)
        self._weights = unit_weights(self._dataset, job.spec.seed + 1)
        self._before = self._scored(self._reference) if job.labelled else None
        self._figures = {"agreement": kept_share(same_system())}
        if self._before is not None:
            self._figures |= _figures(self._before)

    def _on_images(self, runner: Answering) -> Any:
        return results_on(runner, self._dataset)

    def _scored(self, results: Any) -> Scored:
        return self._judge.scored(self._dataset, results, self._weights)

    def judge(self, runner: Answering, attempt: int) -> Accuracy:
        """Bound the candidate's drops.

        Raises:
            DataError: agreement guards, and the baseline says nothing that could be agreed with.
            RuntimeFailure: the candidate does not run on these data.
        """
        # Equal hash means equal behaviour: there is nothing to bound.
        same = runner.config.hash == self._job.baseline.hash
        candidate = self._reference if same else self._results_of(runner)
        agreed = same_system() if same else self._agreement(candidate)
        drops = {"agreement": agreed} if agreed is not None else {}
        figures = {name: kept_share(drop) for name, drop in drops.items()}
        metrics = {name: 1 - drop.estimate for name, drop in drops.items()}
        baseline = dict.fromkeys(drops, 1.0)
        classes: tuple[ClassDrop, ...] = ()
        by_size: dict[str, dict[str, float]] = {}
        if self._before is not None:
            before, after = self._before, self._before if same else self._scored(candidate)
            for name, old in before.metrics.items():
                drops[name] = same_system() if same else paired_drop(old, after.metrics[name])
                metrics[name], baseline[name] = after.metrics[name].point, old.point
            names = self._job.description.class_names
            figures |= _figures(after)
            classes = per_class_drops(before, after, self._guards[0].bound, names)
            by_size = compared_by_size(before, after)
        bound = self._bound(drops, figures, attempt)
        level = bound.level if bound else LEVEL
        recorded = {name: self._recorded(name, drop, level) for name, drop in drops.items()}
        bounds = {name: _within(name, figure, level) for name, figure in figures.items()}
        return Accuracy(metrics, baseline, recorded, bound, classes, by_size, bounds)

    def _agreement(self, candidate: Any) -> DropBound | None:
        """None where it cannot be judged, and labels guard instead."""
        try:
            return self._judge.agreement(self._dataset, self._reference, candidate, self._weights)
        except DataError:
            if self._guards[0].base == "agreement":
                raise
            return None

    def _bound(
        self, drops: Mapping[str, DropBound], figures: Mapping[str, DropBound], attempt: int
    ) -> FinalBound | None:
        """All goals must hold, so each may be judged at the attempt's level.

        A goal on a drop holds where its bound does. An absolute one is a reason to fall back where
        the candidate does worse at it than the baseline on the same data: what the baseline does
        not reach either, or is not sure to, no way back would bring.
        """
        images = len(self._dataset)
        bounds: dict[Goal, FinalBound] = {
            goal: final_bound(drops[goal.base], goal.bound, attempt, images)
            for goal in self._guards
            if goal.base in drops
        }
        for goal in self._absolute:
            before, after = self._figures.get(goal.base), figures.get(goal.base)
            if before is not None and after is not None:
                lost = lost_goal(goal, before, after, attempt, images)
                bounds |= {goal: lost} if lost is not None else {}
        broken = [goal for goal, bound in bounds.items() if not bound.holds]
        beyond = [goal for goal in broken if bounds[goal].likely > bounds[goal].allowed]
        goal = next(iter((*beyond, *broken)), self._guards[0])
        if goal == self._guards[0]:
            return bounds.get(goal)
        return replace(bounds[goal], reason=f"{goal.base} {bounds[goal].reason}")

    def _recorded(self, name: str, drop: DropBound, level: float) -> Drop:
        lower, upper = drop.lower_at(level), drop.upper_at(level)
        return Drop(name, drop.estimate, lower, upper, level, len(self._dataset), drop.by_margins)


def _figures(scored: Scored) -> dict[str, DropBound]:
    return {name: figure_itself(found) for name, found in scored.metrics.items()}


def _within(name: str, figure: DropBound, level: float) -> tuple[float, float]:
    """Both bounds, no further than the metric can go."""
    metric = METRICS[name]
    high = 1.0 if metric.high is None else metric.high
    return max(metric.low, figure.lower_at(level)), min(high, figure.upper_at(level))
