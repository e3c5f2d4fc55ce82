"""Judge of semantic segmentation: mean intersection over union."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import Dataset
from saccade.data.masks import VOID, read_mask
from saccade.errors import DataError
from saccade.tasks.segmentation import Masks
from saccade.validate.contract import Scored, check_judgeable, check_length
from saccade.validate.drop_bound import DropBound, paired_drop
from saccade.validate.ratios import mean_ratio_replicates, ratio_replicates


class SegmentationJudge:
    """mIoU over all pixels of all images, as PASCAL VOC and Cityscapes define it."""

    threshold: ClassVar[float] = 0.0
    agreement_threshold: ClassVar[float] = 0.0

    @staticmethod
    def scored(dataset: Dataset, outputs: Masks, weights: NDArray[np.int64]) -> Scored:
        """MIoU over the classes that the labels have, and the IoU of each."""
        check_judgeable(dataset, len(outputs))
        truths = [
            read_mask(image.mask, image.void_ids) if image.mask else None
            for image in dataset.images
        ]
        shared, either = overlaps(truths, outputs)
        labelled = np.unique(
            np.concatenate([np.unique(truth) for truth in truths if truth is not None])
        )
        classes = [int(c) for c in labelled if c != VOID]
        metrics = {"miou": mean_ratio_replicates(shared[:, classes], either[:, classes], weights)}
        per_class = {c: ratio_replicates(shared[:, c], either[:, c], weights) for c in classes}
        return Scored(metrics, per_class)

    @staticmethod
    def agreement(
        dataset: Dataset, reference: Masks, candidate: Masks, weights: NDArray[np.int64]
    ) -> DropBound:
        """One minus the mIoU against the reference's masks, taken for the truth."""
        check_length(dataset, len(candidate))
        shared, either = overlaps(list(reference.masks), candidate)
        found = mean_ratio_replicates(shared, either, weights)
        same = mean_ratio_replicates(either, either, weights)
        return paired_drop(same, found)


def overlaps(
    truths: list[NDArray[Any] | None], outputs: Masks
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels per image and class that both have, and that either has, each ``(N, C)``.

    Pixels whose truth is `VOID` do not count.

    Raises:
        DataError: a mask is of another size than its truth.
    """
    count = 1 + max(
        int(mask.max()) for mask in [*outputs.masks, *(t for t in truths if t is not None)]
    )
    shared, either = np.zeros((len(truths), count)), np.zeros((len(truths), count))
    for row, (truth, mask) in enumerate(zip(truths, outputs.masks, strict=True)):
        if truth is None:
            continue
        if truth.shape != mask.shape and _lost_only_odd_rows(truth.shape, mask.shape):
            truth = truth[: mask.shape[0], : mask.shape[1]]
        if truth.shape != mask.shape:
            raise DataError(
                f"A result has {mask.shape[1]}x{mask.shape[0]} pixels, its label "
                f"{truth.shape[1]}x{truth.shape[0]}. They must be of the same image."
            )
        judged = truth != VOID
        pairs = truth[judged].astype(np.int64) * count + mask[judged]
        table = np.bincount(pairs, minlength=count * count).reshape(count, count)
        shared[row] = table.diagonal()
        either[row] = table.sum(axis=0) + table.sum(axis=1) - shared[row]
    return shared, either


def _lost_only_odd_rows(truth: tuple[int, ...], mask: tuple[int, ...]) -> bool:
    """4:2:0 video has even sides, so an image judged as a frame of it may have lost an odd one."""
    return all(new == old - old % 2 or new == old for old, new in zip(truth, mask, strict=True))
