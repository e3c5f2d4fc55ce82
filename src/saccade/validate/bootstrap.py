"""Paired bootstrap over images of the difference in detection accuracy between two systems.

Both systems are resampled with the same images, so what is common to them cancels. The AP of a
resample is computed from COCOeval's matches with each image counted as often as it was drawn.
That equals COCOeval on literally repeated images: between two true positives precision only
falls, so COCO's precision envelope is decided at true positives alone, and repeats of one true
positive cannot rise above the last of them.

Source of the paired bootstrap over test images: Efron and Tibshirani, "An Introduction to the
Bootstrap" (1993), chapter 8; of AP: Everingham et al., "The PASCAL Visual Object Classes
Challenge: A Retrospective" (2015), section 3.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.validate.detection_metrics import ClassMatches, DetectionAccuracy

RESAMPLES = 1000
GROUPS = 200
_RECALLS = np.linspace(0.0, 1.0, 101)
# What COCOeval adds to a denominator; kept so that the figures agree to the last digit.
_EPSILON = float(np.spacing(1))
# Resamples are taken in slices so that one class's table stays within some 30 MB.
_CELLS = 4_000_000


@dataclass(frozen=True, eq=False)
class Replicates:
    """One figure of one system: on all images, on resamples, and with images left out.

    Attributes:
        point: on all images, each counted once.
        drawn: ``(B,)`` float64 on each resample; NaN where a resample has nothing to judge.
        left_out: ``(G,)`` float64 with each of G groups of images left out (single images up
            to `GROUPS` of them); NaN where nothing to judge is left.
        images: number of images that have something to judge.
        unit: what one unit weighs: an image in a share of images; elsewhere a match, among which
            the figure's value is shared out.
        margins: ``(N,)`` float64, how far each image is from turning, where the task knows, see
            `saccade.validate.margins`.
    """

    point: float
    drawn: NDArray[np.float64]
    left_out: NDArray[np.float64]
    images: int
    unit: float
    margins: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class MapBootstrap:
    """One system's accuracy with its replicates; keep it, every comparison reuses it.

    Attributes:
        map50_95: mean AP over IoU 0.50:0.05:0.95.
        map50: mean AP at IoU 0.50.
        per_class: class id → AP50-95; the replicates' ``images`` are those with the class.
    """

    map50_95: Replicates
    map50: Replicates
    per_class: dict[int, Replicates]


def resample_weights(images: int, resamples: int = RESAMPLES, seed: int = 0) -> NDArray[np.int64]:
    """How often each image is drawn in each resample: ``(resamples, images)``, rows sum to images.

    Systems are compared on the same weights.

    Raises:
        ValueError: there are no images.
    """
    if images < 1:
        raise ValueError("resampling needs at least one image")
    generator = np.random.default_rng(seed)
    shares = np.full(images, 1.0 / images)
    weights: NDArray[np.int64] = generator.multinomial(images, shares, size=resamples)
    return weights


def replicates(accuracy: DetectionAccuracy, weights: NDArray[np.int64]) -> MapBootstrap:
    """Accuracy of one system on every resample, and with each group of images left out.

    A class that a resample has no object of is left out of that resample's mean, as COCO does.

    Args:
        accuracy: with its matches on ``images`` images.
        weights: ``(B, images)`` counts from `resample_weights`.

    Raises:
        ValueError: the weights are for another number of images.
    """
    if weights.ndim != 2 or weights.shape[1] != accuracy.images:
        raise ValueError(
            f"weights have shape {weights.shape}, expected (resamples, {accuracy.images})"
        )
    strict, loose = class_aps(
        accuracy, np.concatenate([weights, left_out_weights(accuracy.images)])
    )
    cut = len(weights)

    def split(point: float, values: NDArray[np.float64], images: int, found: float) -> Replicates:
        return Replicates(point, values[:cut], values[cut:], images, unit_of(point, found))

    counts = [int(np.count_nonzero(matches.objects)) for matches in accuracy.matches]
    # Objects found, at the mean IoU threshold and at the first.
    hits = [matches.true_positive.sum(axis=1) for matches in accuracy.matches]
    found = [float(by_threshold.mean()) for by_threshold in hits]
    at_50 = float(sum(by_threshold[0] for by_threshold in hits))
    points = accuracy.per_class.items()
    return MapBootstrap(
        map50_95=split(accuracy.map50_95, mean_of_present(strict), accuracy.images, sum(found)),
        map50=split(accuracy.map50, mean_of_present(loose), accuracy.images, at_50),
        per_class={
            class_id: split(point, strict[:, column], counts[column], found[column])
            for column, (class_id, point) in enumerate(points)
        },
    )


def unit_of(point: float, matches: float) -> float:
    """What one of the matches that make up a figure weighs."""
    return max(0.0, point) / matches if matches else 0.0


def left_out_weights(images: int) -> NDArray[np.int64]:
    """``(G, images)`` weights that leave one group of images out each."""
    groups = min(images, GROUPS)
    kept: NDArray[np.bool_] = np.arange(images) % groups != np.arange(groups)[:, None]
    return kept.astype(np.int64)


def class_aps(
    accuracy: DetectionAccuracy, weights: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AP50-95 and AP50 of each class with each image counted ``weights`` times.

    Args:
        accuracy: with C classes.
        weights: ``(B, images)`` counts.

    Returns:
        Two ``(B, C)`` arrays; NaN where no object of the class is counted.
    """
    by_image = np.ascontiguousarray(weights.T, dtype=np.float32)
    both = [_class_replicates(matches, by_image) for matches in accuracy.matches]
    strict = np.stack([at_all for at_all, _ in both], axis=1)
    loose = np.stack([at_50 for _, at_50 in both], axis=1)
    return strict, loose


def mean_of_present(per_class: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row means without NaN; NaN for a resample in which no image has an object."""
    present = ~np.isnan(per_class)
    count = present.sum(axis=1)
    total = np.where(present, per_class, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _class_replicates(
    matches: ClassMatches, by_image: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AP over all IoU thresholds and at the first, each ``(B,)``; NaN without objects."""
    step = max(1, _CELLS // max(1, len(matches.scores)))
    slices = [
        _threshold_aps(matches, by_image[:, start : start + step])
        for start in range(0, by_image.shape[1], step)
    ]
    aps = np.concatenate(slices, axis=1)
    return aps.mean(axis=0), aps[0]


def _threshold_aps(matches: ClassMatches, by_image: NDArray[np.float32]) -> NDArray[np.float64]:
    """``(T, B)`` AP of one class at each IoU threshold on each resample."""
    holders = np.flatnonzero(matches.objects)
    # Rows of by_image are whole counts below 2**24, so float32 sums of them are exact.
    objects = matches.objects[holders].astype(np.float32) @ by_image[holders]
    aps = np.zeros((len(matches.true_positive), by_image.shape[1]))
    judged: tuple[NDArray[np.bool_], NDArray[np.float32]] | None = None
    last = _last_true_positive(matches)
    drawn = by_image[matches.image[:last]]
    for threshold, hits in enumerate(matches.true_positive[:, :last]):
        if not hits.any():
            continue
        ignored = matches.ignored[threshold, :last]
        if judged is None or not np.array_equal(judged[0], ignored):
            judged = (ignored, np.cumsum(drawn * ~ignored[:, None], axis=0, dtype=np.float32))
        found = np.cumsum(drawn[hits], axis=0, dtype=np.float64)
        aps[threshold] = _average_precision(found, judged[1][hits], objects)
    aps[:, objects == 0] = np.nan
    return aps


def _last_true_positive(matches: ClassMatches) -> int:
    """Length of the ranking up to its last true positive; nothing after it changes AP."""
    hits = np.flatnonzero(matches.true_positive.any(axis=0))
    return int(hits[-1]) + 1 if hits.size else 0


def _average_precision(
    found: NDArray[np.float64], judged: NDArray[np.float32], objects: NDArray[np.float32]
) -> NDArray[np.float64]:
    """COCO's 101-point AP from the ranks at which true positives lie.

    Args:
        found: ``(M, B)`` true positives up to each of the M hits.
        judged: ``(M, B)`` detections up to each hit, ignored ones left out.
        objects: ``(B,)`` objects to find.
    """
    precision = found / (judged + _EPSILON)
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    recall = found / np.maximum(objects, 1)
    # A hit decides the recall points above the previous hit's recall and up to its own.
    reached = np.searchsorted(_RECALLS, recall, side="right")
    points = np.diff(reached, axis=0, prepend=0)
    average: NDArray[np.float64] = np.einsum("mb,mb->b", envelope, points) / len(_RECALLS)
    return average
