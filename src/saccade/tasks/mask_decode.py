"""From prototypes and coefficients to masks, twice: as commonly written, and box by box.

A YOLO-seg model gives prototypes ``(K, h, w)`` and, per box, K coefficients; their weighted sum
is the logit of the object's mask at a quarter of the input's size (YOLACT, Bolya et al. 2019).
It is interpolated bilinearly to the frame's pixels, cut off at the box and compared with 0, which
is where the sigmoid is a half. Both ways interpolate at the same places of the same map, so the
masks differ at most in pixels whose logit is zero but for rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.geometry import Letterbox
from saccade.tasks.box_masks import BoxMasks

Array = NDArray[np.float32]
Decode = Callable[[Array, Array, Array, Letterbox], BoxMasks]


@dataclass(frozen=True)
class _Grid:
    """Where frame pixels lie on a map: ``cell = pixel * step + start``, down and across.

    Attributes:
        step: cells per frame pixel.
        start: place of the frame's first pixel.
        map_hw: cells of the map.
    """

    step: tuple[float, float]
    start: tuple[float, float]
    map_hw: tuple[int, int]

    def cells(self, axis: int, first: int, end: int) -> tuple[int, int]:
        """Cells that pixels ``first`` to ``end`` (exclusive) of an axis are interpolated from."""
        low = math.floor(self.start[axis] + first * self.step[axis])
        high = math.floor(self.start[axis] + (end - 1) * self.step[axis]) + 2
        last = self.map_hw[axis]
        return min(max(low, 0), last - 1), min(max(high, 1), last)

    def part(self, rows: tuple[int, int], columns: tuple[int, int]) -> _Grid:
        """The same for a part of the map."""
        start = (self.start[0] - rows[0], self.start[1] - columns[0])
        return _Grid(self.step, start, (rows[1] - rows[0], columns[1] - columns[0]))

    def fits(self, frame_hw: tuple[int, int]) -> bool:
        """Whether the whole map is the whole frame."""
        return all(
            math.isclose(step * side, cells) and math.isclose(start, 0.5 * step - 0.5)
            for step, start, side, cells in zip(
                self.step, self.start, frame_hw, self.map_hw, strict=True
            )
        )


def whole_masks(prototypes: Array, coefficients: Array, boxes: Array, box: Letterbox) -> BoxMasks:
    """Every mask at the size of the frame, then cut off at its box.

    Args:
        prototypes: ``(K, h, w)``.
        coefficients: ``(N, K)``, one row per box.
        boxes: ``(N, 4)`` xyxy, frame pixels, inside the frame.
        box: how the frame lies in the model's input.
    """
    prototypes, grid = _on_frame(prototypes, box)
    logits = coefficients @ prototypes.reshape(len(prototypes), -1)
    pixels = covered(boxes, box.frame_hw)
    crops = []
    for logit, (top, left, bottom, right) in zip(logits, pixels.tolist(), strict=True):
        mask = _on_whole_frame(logit.reshape(grid.map_hw), grid, box.frame_hw) > 0
        crops.append(mask[top:bottom, left:right].copy())
    return BoxMasks(box.frame_hw, pixels[:, :2], tuple(crops))


def cropped_masks(prototypes: Array, coefficients: Array, boxes: Array, box: Letterbox) -> BoxMasks:
    """The same, looking at nothing but the part of the map under each box."""
    prototypes, grid = _on_frame(prototypes, box)
    pixels = covered(boxes, box.frame_hw)
    crops = tuple(
        _box_mask(prototypes, weights, grid, place)
        for weights, place in zip(coefficients, pixels.tolist(), strict=True)
    )
    return BoxMasks(box.frame_hw, pixels[:, :2], crops)


def covered(boxes: Array, frame_hw: tuple[int, int]) -> NDArray[np.int64]:
    """Pixels ``(N, 4)`` top, left, bottom, right that boxes cover, ends exclusive.

    A pixel belongs to a box if its upper left corner does.
    """
    limit = np.array([frame_hw[1], frame_hw[0]] * 2)
    ends: NDArray[np.int64] = np.clip(np.ceil(boxes), 0, limit).astype(np.int64)
    return ends[:, [1, 0, 3, 2]]


def _on_frame(prototypes: Array, box: Letterbox) -> tuple[Array, _Grid]:
    """The prototypes of the cells that the frame touches: what lies in the border means nothing."""
    steps, starts, ranges = [], [], []
    for axis, border in enumerate((box.top, box.left)):
        cells = prototypes.shape[axis + 1] / box.input_hw[axis]
        step = box.scaled_hw[axis] / box.frame_hw[axis] * cells
        first, end = border * cells, (border + box.scaled_hw[axis]) * cells
        steps.append(step)
        # Pixels and cells are areas; the centre of the first lies half of one inside.
        starts.append(first + 0.5 * step - 0.5)
        ranges.append((math.floor(first), min(math.ceil(end), prototypes.shape[axis + 1])))
    rows, columns = ranges
    grid = _Grid((steps[0], steps[1]), (starts[0], starts[1]), (0, 0)).part(rows, columns)
    return prototypes[:, slice(*rows), slice(*columns)], grid


def _box_mask(
    prototypes: Array, weights: Array, grid: _Grid, pixels: Sequence[int]
) -> NDArray[np.bool_]:
    """One mask ``(h, w)`` on the pixels of its box."""
    top, left, bottom, right = pixels
    if bottom <= top or right <= left:
        return np.zeros((max(0, bottom - top), max(0, right - left)), np.bool_)
    rows, columns = grid.cells(0, top, bottom), grid.cells(1, left, right)
    part = prototypes[:, slice(*rows), slice(*columns)]
    logit = (weights @ part.reshape(len(part), -1)).reshape(part.shape[1:])
    moved = grid.part(rows, columns)
    mask: NDArray[np.bool_] = _interpolated(logit, moved, (top, left, bottom, right)) > 0
    return mask


def _on_whole_frame(logit: Array, grid: _Grid, frame_hw: tuple[int, int]) -> Array:
    if grid.fits(frame_hw):
        import cv2

        # What most people call; several times as fast as the general way, and the same here.
        return np.asarray(cv2.resize(logit, frame_hw[::-1]), np.float32)
    return _interpolated(logit, grid, (0, 0, *frame_hw))


def _interpolated(logit: Array, grid: _Grid, pixels: tuple[int, int, int, int]) -> Array:
    """Logits of the given pixels; beyond the map's edge they are those at the edge."""
    import cv2

    top, left, bottom, right = pixels
    (down, across), (first_row, first_column) = grid.step, grid.start
    matrix = np.array(
        [[across, 0.0, first_column + left * across], [0.0, down, first_row + top * down]]
    )
    size = (right - left, bottom - top)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    found = cv2.warpAffine(logit, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32)


METHODS: dict[str, Decode] = {"whole": whole_masks, "cropped": cropped_masks}
