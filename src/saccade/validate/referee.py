"""Referees of the search: with labels by mAP, without them by agreement with the baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from saccade.data.contract import Dataset, LabelledImage
from saccade.data.frame_roles import Role
from saccade.optimize.change import Effect
from saccade.optimize.race import Runner
from saccade.optimize.referee import Judgement
from saccade.study import Drop
from saccade.tasks.detections import Detections
from saccade.validate.agreement import agreement, agreement_drop
from saccade.validate.bootstrap import Replicates, replicates, resample_weights
from saccade.validate.detection_metrics import DetectionAccuracy, evaluate
from saccade.validate.drop_bound import DropBound, paired_drop
from saccade.validate.guard import LEVEL, judge

# Accuracy is integrated over scores down to this, as COCO's evaluation expects.
JUDGE_THRESHOLD = 0.001
# Agreement looks at what the baseline is sure of; far below that nothing matters.
AGREEMENT_THRESHOLD = 0.05
JUDGE_TIMEOUT_S = 600.0
VIDEO_FRAMES = 40


class LabelReferee:
    """Compares with the baseline's accuracy on labelled images, pair by pair of images."""

    def __init__(
        self, dataset: Dataset, baseline: Runner, metric: str, allowed: float, seed: int
    ) -> None:
        self.metric = metric
        self.allowed = allowed
        self._dataset = dataset
        self._weights = resample_weights(len(dataset), seed=seed)
        self.baseline = self._accuracy(baseline)
        self._baseline_replicates = self._replicates(self.baseline)
        self._lossy = 0

    def _accuracy(self, runner: Runner) -> DetectionAccuracy:
        return evaluate(self._dataset, detections_on(runner, self._dataset))

    def _replicates(self, accuracy: DetectionAccuracy) -> Replicates:
        found: Replicates = getattr(replicates(accuracy, self._weights), self.metric)
        return found

    def judge(self, runner: Runner, effect: Effect) -> Judgement:
        """Bound the drop and decide by the bound."""
        if effect == "lossy":
            self._lossy += 1
        accuracy = self._accuracy(runner)
        drop = paired_drop(self._baseline_replicates, self._replicates(accuracy))
        value = float(getattr(accuracy, self.metric))
        return decide(self, drop, value, effect, max(1, self._lossy), len(self._dataset))


class AgreementReferee:
    """Compares with the baseline's own outputs, on images or on frames of the source."""

    metric = "agreement"

    def __init__(
        self,
        dataset: Dataset,
        results_of: Callable[[Runner], Detections],
        baseline: Runner,
        allowed: float,
        seed: int,
    ) -> None:
        self.allowed = allowed
        self._dataset = dataset
        self._results_of = results_of
        self._reference = results_of(baseline)
        self._weights = resample_weights(len(dataset), seed=seed)
        self._lossy = 0

    def judge(self, runner: Runner, effect: Effect) -> Judgement:
        """Bound the loss of agreement and decide by the bound."""
        if effect == "lossy":
            self._lossy += 1
        found = agreement(self._dataset, self._reference, self._results_of(runner))
        drop = agreement_drop(found, self._weights)
        return decide(self, drop, found.value, effect, max(1, self._lossy), len(self._dataset))


def decide(
    referee: LabelReferee | AgreementReferee,
    drop: DropBound,
    value: float,
    effect: Effect,
    comparisons: int,
    images: int,
) -> Judgement:
    """Turn a bound into a judgement, by the guard's rules."""
    verdict = judge(drop, referee.allowed, effect, comparisons, images)
    record = Drop(
        referee.metric, drop.estimate, drop.lower_at(LEVEL), drop.upper_at(LEVEL), LEVEL, images
    )
    keep = verdict.decision == "keep" or (verdict.decision == "undecided" and effect != "lossy")
    return Judgement(keep, f"{referee.metric} {verdict.reason}", record, value)


def detections_on(runner: Runner, dataset: Dataset) -> Detections:
    """What a running configuration finds on every image of a dataset."""
    found: Detections = runner.worker.call(
        "judge", dataset, JUDGE_THRESHOLD, timeout_s=JUDGE_TIMEOUT_S
    )
    return found


def frames_of(runner: Runner, frames: int, role: Role) -> Detections:
    """What a running configuration finds on the frames of its source that serve ``role``."""
    found: Detections = runner.worker.call(
        "watch", frames, role, AGREEMENT_THRESHOLD, timeout_s=JUDGE_TIMEOUT_S
    )
    return found


def as_dataset(source: str, frames: int, frame_hw: tuple[int, int]) -> Dataset:
    """Frames of a source as an unlabelled dataset, for agreement."""
    empty = LabelledImage(
        path=Path(source),
        width=frame_hw[1],
        height=frame_hw[0],
        boxes=np.empty((0, 4), np.float32),
        class_ids=np.empty(0, np.int64),
        crowd=np.empty(0, np.bool_),
    )
    images = tuple(replace(empty, path=Path(f"{source}#{index}")) for index in range(frames))
    return Dataset(name="frames of the source", images=images, class_names=(), labelled=False)
