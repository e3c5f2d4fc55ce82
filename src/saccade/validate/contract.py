"""What a task's judge answers: accuracy with its replicates, and agreement with the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import Dataset
from saccade.errors import DataError
from saccade.validate.bootstrap import Replicates
from saccade.validate.drop_bound import DropBound


@dataclass(frozen=True)
class SizeAccuracy:
    """Accuracy on the objects of one size.

    Attributes:
        value: the task's first metric on them, 0-1.
        objects: labelled objects of that size.
    """

    value: float
    objects: int


@dataclass(frozen=True, eq=False)
class Scored:
    """One system's accuracy with its replicates; keep it, every comparison reuses it.

    Attributes:
        metrics: by name, all of the task's.
        per_class: class id → the first metric of that class; classes that cannot be judged on
            their own are left out.
        by_size: ``small``, ``medium``, ``large`` → accuracy on objects of that size; empty for
            tasks without objects, and without the sizes that no object has.
    """

    metrics: Mapping[str, Replicates]
    per_class: Mapping[int, Replicates] = field(default_factory=dict)
    by_size: Mapping[str, SizeAccuracy] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """The bare values on all images."""
        return {name: replicates.point for name, replicates in self.metrics.items()}


def compared_by_size(before: Scored, after: Scored) -> dict[str, dict[str, float]]:
    """For each object size the number of objects and both systems' accuracy, JSON-ready."""
    return {
        size: {
            "objects": found.objects,
            "baseline": found.value,
            "candidate": after.by_size[size].value,
        }
        for size, found in before.by_size.items()
    }


class Judge(Protocol):
    """Judges a task's results, as the task's ``collect`` gives them.

    Attributes:
        threshold: score from which results count towards accuracy.
        agreement_threshold: score from which they count towards agreement.
    """

    threshold: ClassVar[float]
    agreement_threshold: ClassVar[float]

    @staticmethod
    def scored(dataset: Dataset, outputs: Any, weights: NDArray[np.int64]) -> Scored:
        """Accuracy on labelled images and on their resamples.

        Args:
            dataset: with labels.
            outputs: one result per image.
            weights: ``(B, images)`` from `saccade.validate.bootstrap.resample_weights`.

        Raises:
            DataError: there are no labels, or the outputs are of other images.
        """
        ...

    @staticmethod
    def agreement(
        dataset: Dataset, reference: Any, candidate: Any, weights: NDArray[np.int64]
    ) -> DropBound:
        """How far the candidate's agreement with the reference lies below 1.

        Raises:
            DataError: the reference says nothing that could be agreed with.
        """
        ...


def check_judgeable(dataset: Dataset, count: int) -> None:
    """Refuse outputs of other images, and images without labels.

    Raises:
        DataError: as said.
    """
    if not dataset.labelled:
        raise DataError(
            f"'{dataset.name}' has no labels, so accuracy cannot be judged on it. "
            "Give labelled images, or set a goal on 'agreement' instead."
        )
    check_length(dataset, count)


def check_length(dataset: Dataset, count: int) -> None:
    """Refuse outputs of other images.

    Raises:
        DataError: as said.
    """
    if count != len(dataset):
        raise DataError(
            f"There are results for {count} images, but '{dataset.name}' has {len(dataset)}. Run "
            "the system again on exactly these images."
        )
