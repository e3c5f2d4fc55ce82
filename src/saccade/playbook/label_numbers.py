"""Whether labels count classes from 1 where the model counts from 0: told by accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from saccade.data.contract import LabelledImage
from saccade.errors import DataError
from saccade.models.verify import clearly_better
from saccade.tasks.contract import Task


def may_count_from_one(images: Sequence[LabelledImage]) -> bool:
    """Whether class 0 never occurs among images that have a class."""
    labels = [image.label for image in images if image.label is not None]
    return bool(labels) and min(labels) > 0


def check_numbers(task: Task, results: Sequence[Any], images: Sequence[LabelledImage]) -> None:
    """Refuse labels that fit the model's results clearly better one class lower.

    Args:
        task: whose fit of a result to a label is compared.
        results: of the model, one per image.
        images: with a class each, of which none is class 0.

    Raises:
        DataError: they do; it says how to set from where they count.
    """
    lower = [
        replace(image, label=None if i is None else i - 1)
        for image in images
        for i in (image.label,)
    ]
    as_given, shifted = (
        np.array([task.fit(r, image) for r, image in zip(results, some, strict=True)])
        for some in (images, lower)
    )
    if clearly_better(as_given, shifted):
        raise DataError(
            "The labels seem to count classes from 1, where the model counts from 0: class 0 "
            f"never occurs, and the true class scores {np.nanmean(as_given):.2f} as they are and "
            f"{np.nanmean(shifted):.2f} one class lower ({len(images)} images). Set labels: "
            "first_class to 1; or to 0, if they are right."
        )
