"""Accuracy against the baseline's own outputs, where there are no labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import Dataset, LabelledImage
from saccade.errors import DataError
from saccade.tasks.detections import Detections
from saccade.validate.bootstrap import Replicates, replicates
from saccade.validate.detection_metrics import DetectionAccuracy, Overlap, evaluate
from saccade.validate.drop_bound import DropBound, paired_drop

CONFIDENT = 0.25


@dataclass(frozen=True, eq=False)
class Agreement:
    """How far a candidate says what the reference says.

    Attributes:
        value: 0-1, 1 for the same outputs.
        found: the reference's confident boxes taken for truth, the candidate judged.
        invented: the candidate's confident boxes taken for truth, the reference judged; None
            where the candidate is confident of nothing.
        images: number of images.
    """

    value: float
    found: DetectionAccuracy
    invented: DetectionAccuracy | None
    images: int


def agreement(
    dataset: Dataset,
    reference: Detections,
    candidate: Detections,
    confident: float = CONFIDENT,
    overlap: Overlap = "boxes",
) -> Agreement:
    """Agreement of two systems on the same images; needs no labels.

    The boxes that one system is confident of are taken for the truth and the other is scored by
    COCO's mAP50; agreement is the mean of both directions. One direction alone would not see
    objects of a class that the reference never reports. All of the other system's boxes count,
    so a box whose score moves from just above to just below ``confident`` costs little.

    Args:
        dataset: the images; its labels are not looked at.
        reference: of the baseline.
        candidate: of the changed system.
        confident: score from which a box is taken for the truth.
        overlap: whether boxes or masks have to overlap.

    Raises:
        DataError: the reference is confident of nothing, or the detections are of other images.
    """
    if not any((scores >= confident).any() for scores in reference.scores):
        raise DataError(
            f"Agreement cannot be judged: the baseline has no detection with a score of at least "
            f"{confident:g} on the {len(dataset)} images of '{dataset.name}'. Give images that "
            "show what the model detects, or check its preprocessing."
        )
    found = evaluate(_as_truth(dataset, reference, confident), candidate, overlap)
    invented = None
    if any((scores >= confident).any() for scores in candidate.scores):
        invented = evaluate(_as_truth(dataset, candidate, confident), reference, overlap)
    both = np.array([found.map50, invented.map50 if invented else 0.0])
    value = float(_settled(both.mean(keepdims=True))[0])
    return Agreement(value, found, invented, len(dataset))


def agreement_drop(result: Agreement, weights: NDArray[np.int64]) -> DropBound:
    """How far agreement lies below 1, the baseline's agreement with itself, with its bound.

    Args:
        result: from `agreement`.
        weights: ``(B, images)`` from `saccade.validate.bootstrap.resample_weights`.

    Raises:
        ValueError: the weights are for another number of images.
    """
    found = replicates(result.found, weights).map50
    drawn, left_out = found.drawn / 2, found.left_out / 2
    if result.invented is not None:
        other = replicates(result.invented, weights).map50
        drawn, left_out = drawn + other.drawn / 2, left_out + other.left_out / 2
    settled = _settled(drawn), _settled(left_out)
    ones = np.ones_like(drawn), np.ones_like(left_out)
    return paired_drop(
        Replicates(1.0, *ones, result.images, found.unit),
        Replicates(result.value, *settled, result.images, found.unit),
    )


def _settled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without COCOeval's division guard, which makes a perfect class 0.9999999999999998."""
    return np.round(values, 12)


def _as_truth(dataset: Dataset, detections: Detections, confident: float) -> Dataset:
    if len(detections) != len(dataset):
        raise DataError(
            f"There are detections for {len(detections)} images, but '{dataset.name}' has "
            f"{len(dataset)}. Run the system again on exactly these images."
        )
    sure = detections.above(confident)
    images = tuple(_with_labels(image, sure, i) for i, image in enumerate(dataset.images))
    return replace(dataset, images=images, labelled=True)


def _with_labels(image: LabelledImage, sure: Detections, index: int) -> LabelledImage:
    class_ids = sure.class_ids[index]
    return replace(
        image,
        boxes=sure.boxes[index],
        class_ids=class_ids,
        crowd=np.zeros(len(class_ids), np.bool_),
        outlines=sure.outlines[index] if sure.outlines is not None else None,
    )
