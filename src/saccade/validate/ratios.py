"""Replicates of figures that are ratios of sums over images. Pure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from saccade.validate.bootstrap import Replicates, left_out_weights, unit_of


def ratio_replicates(
    numerators: NDArray[np.float64], denominators: NDArray[np.float64], weights: NDArray[np.int64]
) -> Replicates:
    """A figure that is a sum over images divided by another, replicated.

    Args:
        numerators: ``(images,)``.
        denominators: ``(images,)``.
        weights: ``(B, images)``.
    """
    return mean_ratio_replicates(numerators[:, None], denominators[:, None], weights)


def share_replicates(
    hits: NDArray[np.float64], judged: NDArray[np.bool_], weights: NDArray[np.int64]
) -> Replicates:
    """A share of images, each of which weighs the same, whether it is a hit or not.

    Args:
        hits: ``(images,)`` 0 or 1.
        judged: ``(images,)`` whether the image counts.
        weights: ``(B, images)``.
    """
    found = ratio_replicates(hits * judged, judged.astype(np.float64), weights)
    return replace(found, unit=1 / max(1, int(judged.sum())))


def mean_ratio_replicates(
    numerators: NDArray[np.float64], denominators: NDArray[np.float64], weights: NDArray[np.int64]
) -> Replicates:
    """A mean over classes of such ratios; a class that a resample has nothing of is left out.

    Args:
        numerators: ``(images, classes)``.
        denominators: ``(images, classes)``.
        weights: ``(B, images)``.
    """
    images = len(numerators)
    counted = np.concatenate([np.ones((1, images), np.int64), weights, left_out_weights(images)])
    above, below = counted @ numerators, counted @ denominators
    ratios = np.where(below > 0, above / np.maximum(below, 1e-12), np.nan)
    present = ~np.isnan(ratios)
    totals = np.where(present, ratios, 0).sum(axis=1)
    count = present.sum(axis=1)
    values = np.where(count > 0, totals / np.maximum(count, 1), np.nan)
    judged = int(np.count_nonzero(denominators.sum(axis=1)))
    stop = 1 + len(weights)
    unit = unit_of(float(values[0]), int(np.count_nonzero(numerators)))
    return Replicates(float(values[0]), values[1:stop], values[stop:], judged, unit)
