"""Whether two ways of preparing samples give the same: compared on samples, not believed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Difference:
    """How far two prepared samples are apart.

    Attributes:
        mean: of the absolute differences of the inputs, as a share of the reference's standard
            deviation.
        largest: of them.
        targets: share 0-1 of target values that are not equal.
    """

    mean: float
    largest: float
    targets: float

    @property
    def rounding(self) -> bool:
        """Nothing but the rounding of fp32."""
        return self.largest < 1e-4 and self.targets == 0.0


def difference(reference: tuple[Any, Any], other: tuple[Any, Any]) -> Difference | str:
    """How far ``other`` is from ``reference``, each an ``(input, target)``; or what is unlike."""
    a, b = array_of(reference[0]), array_of(other[0])
    if a is None or b is None:
        return "the input is not one array"
    if a.shape != b.shape:
        return f"the input has shape {b.shape} instead of {a.shape}"
    targets = _unequal(reference[1], other[1])
    if isinstance(targets, str):
        return targets
    apart = np.abs(a.astype(np.float64) - b)
    spread = max(float(a.std()), 1e-9)
    return Difference(float(apart.mean()) / spread, float(apart.max()) / spread, targets)


def worst(
    reference: Callable[[int], tuple[Any, Any]],
    other: Callable[[int], tuple[Any, Any]],
    numbers: Sequence[int],
) -> Difference | str:
    """The largest difference over some samples, or why one of them cannot be compared."""
    found = []
    for number in numbers:
        try:
            compared = difference(reference(number), other(number))
        except Exception as error:  # the user's own code runs here
            return f"{type(error).__name__}: {error}"[:200]
        if isinstance(compared, str):
            return compared
        found.append(compared)
    if not found:
        return "no sample could be compared"
    return Difference(
        max(one.mean for one in found),
        max(one.largest for one in found),
        max(one.targets for one in found),
    )


def array_of(value: Any) -> NDArray[Any] | None:
    """A tensor, array or number as an array; None for anything else."""
    if hasattr(value, "detach"):
        return np.asarray(value.detach().cpu())
    if isinstance(value, np.ndarray | int | float | np.generic):
        return np.asarray(value)
    return None


def _unequal(reference: Any, other: Any) -> float | str:
    a, b = array_of(reference), array_of(other)
    if a is None or b is None:
        same = type(reference) is type(other) and repr(reference) == repr(other)
        return 0.0 if same else "the target is neither an array nor a number"
    if a.shape != b.shape:
        return f"the target has shape {b.shape} instead of {a.shape}"
    return float((a != b).mean()) if a.size else 0.0
