"""Recognize constants that describe the cells of feature maps, and make them for other sizes.

An exporter that knows the input size turns anchor points, strides and grids into constants.
Over the cells ``(y, x)`` of one feature map each of them is affine: ``a + b*x + c*y``. Whatever
fits that exactly, with steps that do not depend on the input size, can be continued to any grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HW = tuple[int, int]


class Refusal(Exception):  # noqa: N818 - an answer, not an error
    """Why the model cannot be rewritten as asked."""


@dataclass(frozen=True)
class Levels:
    """The feature maps that predictions are made on, before and after the change of size.

    Attributes:
        strides: one per level, in the order in which the predictions are joined.
        old: ``(H, W)`` of the old input, pixels.
        new: ``(H, W)`` of the new input, pixels.
    """

    strides: tuple[int, ...]
    old: HW
    new: HW

    def maps(self, hw: HW) -> list[HW]:
        """Size in cells of each level at input size ``hw``."""
        return [(hw[0] // stride, hw[1] // stride) for stride in self.strides]

    def count(self, hw: HW) -> int:
        """Cells of all levels together."""
        return sum(height * width for height, width in self.maps(hw))


def regrid(array: NDArray[np.generic], axis: int, levels: Levels) -> NDArray[np.generic]:
    """Continue a constant from the old to the new cells.

    Args:
        array: any shape; ``axis`` runs over the cells, row by row, of all ``levels`` one after
            the other.
        axis: which axis that is.
        levels: the levels that the axis covers; the length must be ``levels.count(levels.old)``.

    Raises:
        Refusal: it is no anchor grid.
    """
    moved = np.moveaxis(array, axis, 0)
    rest = moved.shape[1:]
    flat = moved.reshape(moved.shape[0], -1).astype(np.float64)
    parts: list[NDArray[np.float64]] = []
    start = 0
    for stride, old, new in zip(
        levels.strides, levels.maps(levels.old), levels.maps(levels.new), strict=True
    ):
        stop = start + old[0] * old[1]
        parts.append(_continue(flat[start:stop], old, new, stride))
        start = stop
    joined = np.concatenate(parts).reshape(-1, *rest)
    return np.moveaxis(joined, 0, axis).astype(array.dtype)


def regrid_maps(
    array: NDArray[np.generic], axes: tuple[int, int], stride: int, old: HW, new: HW
) -> NDArray[np.generic]:
    """Like `regrid`, for a constant of one level whose rows and columns are two axes."""
    moved = np.moveaxis(array, axes, (0, 1))
    rest = moved.shape[2:]
    flat = moved.reshape(old[0] * old[1], -1).astype(np.float64)
    part = _continue(flat, old, new, stride)
    return np.moveaxis(part.reshape(*new, *rest), (0, 1), axes).astype(array.dtype)


def _continue(values: NDArray[np.float64], old: HW, new: HW, stride: int) -> NDArray[np.float64]:
    """From ``(old cells, K)`` to ``(new cells, K)``, exactly."""
    grid = values.reshape(*old, -1)
    origin = grid[0, 0]
    step_y = grid[1, 0] - origin if old[0] > 1 else np.zeros_like(origin)
    step_x = grid[0, 1] - origin if old[1] > 1 else np.zeros_like(origin)
    if (old[0] == 1 and new[0] > 1) or (old[1] == 1 and new[1] > 1):
        raise Refusal("a feature map of one row or column does not show how its values continue")
    if not np.allclose(_affine(origin, step_y, step_x, old), grid, rtol=1e-4, atol=1e-4):
        raise Refusal("its values do not follow the cells of a grid")
    allowed = np.array([0.0, 1.0, 2.0, stride, 2.0 * stride])
    steps = np.abs(np.concatenate([step_y, step_x]))
    if not np.all(np.isclose(steps[:, None], allowed, rtol=1e-4, atol=1e-6).any(axis=1)):
        raise Refusal("its step from cell to cell is neither one cell nor one stride")
    return _affine(origin, np.round(step_y), np.round(step_x), new).reshape(-1, values.shape[1])


def _affine(
    origin: NDArray[np.float64], step_y: NDArray[np.float64], step_x: NDArray[np.float64], hw: HW
) -> NDArray[np.float64]:
    rows = np.arange(hw[0], dtype=np.float64)[:, None, None]
    columns = np.arange(hw[1], dtype=np.float64)[None, :, None]
    return origin + rows * step_y + columns * step_x


def find_levels(
    length: int, old: HW, new: HW, stride_sets: Sequence[tuple[int, ...]]
) -> Levels | None:
    """The levels whose cells make up an axis of ``length``: a known set, or one level alone."""
    singles = sorted({stride for strides in stride_sets for stride in strides})
    for strides in [*stride_sets, *[(stride,) for stride in singles]]:
        if any(side % strides[-1] for side in (*old, *new)):
            continue
        levels = Levels(strides, old, new)
        if levels.count(old) == length:
            return levels
    return None
