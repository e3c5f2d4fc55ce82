"""Judge of classification: top-1 and top-5."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import Dataset
from saccade.tasks.classification import ClassScores
from saccade.validate.bootstrap import Replicates
from saccade.validate.contract import Scored, check_judgeable, check_length
from saccade.validate.drop_bound import DropBound, paired_drop
from saccade.validate.margins import margins
from saccade.validate.ratios import share_replicates

# A class with fewer images says nothing on its own.
MIN_CLASS_IMAGES = 2


class ClassificationJudge:
    """Top-1 and top-5: the share of images whose class is among the first."""

    threshold: ClassVar[float] = 0.0
    agreement_threshold: ClassVar[float] = 0.0

    @staticmethod
    def scored(dataset: Dataset, outputs: ClassScores, weights: NDArray[np.int64]) -> Scored:
        """Top-1 and top-5 over all images, and top-1 of each class with several images."""
        check_judgeable(dataset, len(outputs))
        labels = np.array([-1 if i.label is None else i.label for i in dataset.images])
        metrics = {
            name: replace(
                share_replicates(hits(outputs, labels, k), labels >= 0, weights),
                margins=_margins(outputs, labels, k),
            )
            for name, k in (("top1", 1), ("top5", 5))
        }
        first = hits(outputs, labels, 1)
        classes: dict[int, Replicates] = {}
        for class_id in np.unique(labels[labels >= 0]).tolist():
            of_class = labels == class_id
            if of_class.sum() >= MIN_CLASS_IMAGES:
                classes[class_id] = share_replicates(first, of_class, weights)
        return Scored(metrics, classes)

    @staticmethod
    def agreement(
        dataset: Dataset, reference: ClassScores, candidate: ClassScores, weights: NDArray[np.int64]
    ) -> DropBound:
        """Share of the images in which the first class is another."""
        check_length(dataset, len(candidate))
        first = reference.scores.argmax(axis=1)
        same = first == candidate.scores.argmax(axis=1)
        every = np.ones(len(same), np.bool_)
        before, after = (
            replace(share_replicates(kept, every, weights), margins=_margins(outputs, first, 1))
            for kept, outputs in (
                (np.ones(len(same)), reference),
                (same.astype(np.float64), candidate),
            )
        )
        return paired_drop(before, after)


def _margins(outputs: ClassScores, labels: NDArray[np.int64], k: int) -> NDArray[np.float64] | None:
    """None where there are no more than ``k`` classes: nothing could leave the first ones."""
    scores = outputs.scores
    return margins(scores, labels, k) if scores.shape[1] > k else None


def hits(outputs: ClassScores, labels: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """``(N,)`` 1 where the label is among the ``k`` best; ties count against the system."""
    mine = np.take_along_axis(outputs.scores, np.maximum(labels, 0)[:, None], axis=1)
    better = (outputs.scores >= mine).sum(axis=1)
    with_nan = np.isnan(outputs.scores).any(axis=1)
    hit: NDArray[np.bool_] = (better <= k) & ~with_nan
    return hit.astype(np.float64)
