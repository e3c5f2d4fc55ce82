"""Referees of the search: with labels by the task's metric, else by agreement with the baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from saccade import plugins
from saccade.data.contract import Dataset
from saccade.data.frame_roles import Role, as_dataset
from saccade.goals import Goal
from saccade.optimize.change import Effect
from saccade.optimize.referee import Answering, Judgement
from saccade.pipeline.config import PipelineConfig
from saccade.study import Drop
from saccade.validate.blocks import unit_weights
from saccade.validate.contract import Judge, Scored, compared_by_size
from saccade.validate.drop_bound import DropBound, paired_drop
from saccade.validate.guard import LEVEL, judge

__all__ = ["AgreementReferee", "LabelReferee", "as_dataset", "frames_of", "results_on"]

JUDGE_TIMEOUT_S = 600.0
VIDEO_FRAMES = 40
# What decides how large an object is when the model sees it.
_SIZING = ("input_size", "shape", "margin", "squeeze", "dynamic_resolution")


class LabelReferee:
    """Compares with the baseline's accuracy on labelled images, pair by pair of images.

    Args:
        also: other metrics whose drop is bounded, with what is allowed.
        absolute: goals on figures themselves, such as ``top1>=0.7``.
    """

    def __init__(
        self,
        dataset: Dataset,
        baseline: Answering,
        metric: str,
        allowed: float,
        seed: int,
        also: Mapping[str, float] = MappingProxyType({}),
        absolute: Sequence[Goal] = (),
    ) -> None:
        self.metric = metric
        self.allowed = allowed
        self._also = also
        self._absolute = absolute
        self._dataset = dataset
        self._weights = unit_weights(dataset, seed)
        self._judge = judge_of(baseline)
        self._baseline_config = baseline.config
        self.baseline = self._scored(baseline)
        self._lossy = 0

    def _scored(self, runner: Answering) -> Scored:
        return self._judge.scored(self._dataset, results_on(runner, self._dataset), self._weights)

    def judge(self, runner: Answering, effect: Effect) -> Judgement:
        """Bound the drops and decide by the bounds; what is on record is that of `metric`."""
        if effect == "lossy":
            self._lossy += 1
        scored = self._scored(runner)
        judged = self._decided(scored, self.metric, self.allowed, effect)
        for metric, allowed in self._also.items():
            other = self._decided(scored, metric, allowed, effect)
            if judged.keep and not other.keep:
                judged = replace(judged, keep=False, reason=other.reason)
        for goal in self._absolute:
            reason = self._missed(scored, goal)
            if judged.keep and reason is not None:
                judged = replace(judged, keep=False, reason=reason)
        if not other_pixels(self._baseline_config, runner.config):
            return judged
        return replace(judged, by_size=compared_by_size(self.baseline, scored))

    def _missed(self, scored: Scored, goal: Goal) -> str | None:
        """What a candidate misses by its estimate, and the baseline does not; None for nothing.

        The estimate will do: what is kept here is judged by its whole interval on other data.
        """
        before, after = (s.metrics[goal.base].point for s in (self.baseline, scored))
        if before < goal.bound or after >= goal.bound:
            return None
        return (
            f"{goal.base} {after:.4f} misses {goal.name}, which the baseline's {before:.4f} meets"
        )

    def _decided(self, scored: Scored, metric: str, allowed: float, effect: Effect) -> Judgement:
        found = scored.metrics[metric]
        drop = paired_drop(self.baseline.metrics[metric], found)
        comparisons, images = max(1, self._lossy), len(self._dataset)
        return decide(metric, allowed, drop, found.point, effect, comparisons, images)


class AgreementReferee:
    """Compares with the baseline's own outputs, on images or on frames of the source.

    Raises:
        DataError: the baseline says nothing that could be agreed with.
    """

    metric = "agreement"

    def __init__(
        self,
        dataset: Dataset,
        results_of: Callable[[Answering], Any],
        baseline: Answering,
        allowed: float,
        seed: int,
    ) -> None:
        self.allowed = allowed
        self._dataset = dataset
        self._results_of = results_of
        self._judge = judge_of(baseline)
        self._reference = results_of(baseline)
        self._weights = unit_weights(dataset, seed)
        # Asked once of itself, so that nothing is measured where nothing could be judged.
        self._judge.agreement(dataset, self._reference, self._reference, self._weights[:1])
        self._lossy = 0

    def judge(self, runner: Answering, effect: Effect) -> Judgement:
        """Bound the loss of agreement and decide by the bound."""
        if effect == "lossy":
            self._lossy += 1
        found = self._results_of(runner)
        drop = self._judge.agreement(self._dataset, self._reference, found, self._weights)
        comparisons, images = max(1, self._lossy), len(self._dataset)
        return decide(
            self.metric, self.allowed, drop, 1 - drop.estimate, effect, comparisons, images
        )


def decide(
    metric: str,
    allowed: float,
    drop: DropBound,
    value: float,
    effect: Effect,
    comparisons: int,
    images: int,
) -> Judgement:
    """Turn a bound into a judgement, by the guard's rules."""
    verdict = judge(drop, allowed, effect, comparisons, images)
    lower, upper = drop.lower_at(LEVEL), drop.upper_at(LEVEL)
    record = Drop(metric, drop.estimate, lower, upper, LEVEL, images, drop.by_margins)
    keep = verdict.decision == "keep" or (verdict.decision == "undecided" and effect != "lossy")
    return Judgement(keep, f"{metric} {verdict.reason}", record, value)


def other_pixels(first: PipelineConfig, second: PipelineConfig) -> bool:
    """Whether two configurations look at a frame in another size, shape or aspect."""
    return any(getattr(first, name) != getattr(second, name) for name in _SIZING)


def judge_of(runner: Answering) -> Judge:
    """The judge of a configuration's task."""
    found: Judge = plugins.load("judges", runner.config.task)
    return found


def results_on(runner: Answering, dataset: Dataset) -> Any:
    """What a running configuration answers to every image of a dataset."""
    threshold = judge_of(runner).threshold
    return runner.worker.call("judge", dataset, threshold, timeout_s=JUDGE_TIMEOUT_S)


def frames_of(runner: Answering, frames: int, role: Role) -> Any:
    """What a running configuration answers to the frames of its source that serve ``role``."""
    threshold = judge_of(runner).agreement_threshold
    return runner.worker.call("watch", frames, role, threshold, timeout_s=JUDGE_TIMEOUT_S)
