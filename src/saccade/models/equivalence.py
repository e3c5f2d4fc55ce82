"""Whether two forms of one model answer the same. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import ModelError

# Difference, as a share of the output's largest value, that reordered float32 sums may make.
TOLERANCE = 1e-3


def difference(expected: NDArray[Any], found: NDArray[Any]) -> float:
    """Largest difference as a share of the largest expected value; infinite for other shapes."""
    if expected.shape != found.shape:
        return float("inf")
    if not expected.size:
        return 0.0
    wide, other = expected.astype(np.float64), found.astype(np.float64)
    if not np.array_equal(np.isfinite(wide), np.isfinite(other)):
        return float("inf")
    sound = np.isfinite(wide)
    if not sound.any():
        return 0.0
    largest = float(np.abs(wide[sound]).max()) or 1.0
    return float(np.abs(wide[sound] - other[sound]).max()) / largest


def check_same(
    expected: Sequence[NDArray[Any]],
    found: Sequence[NDArray[Any]],
    what: str,
    worst_layer: Callable[[], str] | None = None,
    tolerance: float = TOLERANCE,
) -> None:
    """Refuse a converted model that answers differently.

    Args:
        expected: outputs of the original.
        found: outputs of the converted model.
        what: what it is, as the subject of the message.
        worst_layer: finds a sentence on where the difference comes from; asked only then.
        tolerance: share of the output's largest value.

    Raises:
        ModelError: there are other outputs, or one differs by more than ``tolerance``.
    """
    if len(expected) != len(found):
        raise ModelError(f"{what} has {len(found)} outputs, the original {len(expected)}.")
    for index, (one, other) in enumerate(zip(expected, found, strict=True)):
        off = difference(one, other)
        if off > tolerance:
            shapes = f", shapes {one.shape} and {other.shape}" if one.shape != other.shape else ""
            where = f" {worst_layer()}" if worst_layer is not None else ""
            raise ModelError(
                f"{what} answers differently from the original: output {index} is off by {off:.1%} "
                f"of its largest value{shapes}; {tolerance:.1%} was expected at most.{where}"
            )
