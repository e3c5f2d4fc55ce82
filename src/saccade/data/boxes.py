"""Boxes against the image they lie in: clip what sticks out, leave out what is not there. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import DataProblem

# Labels are written with a few decimals; an overshoot below half a pixel is rounding.
_ROUNDING_PX = 0.5


def clip_boxes(
    boxes: NDArray[np.float64], width: int, height: int, source: str
) -> tuple[NDArray[np.float32], NDArray[np.bool_], list[DataProblem]]:
    """Clip boxes to their image and leave out those with nothing in it.

    Args:
        boxes: ``(N, 4)`` xyxy pixels, finite.
        width: of the image, pixels.
        height: of the image, pixels.
        source: the file the boxes are from, for the problems.

    Returns:
        ``(M, 4)`` float32 xyxy boxes that remain, ``(N,)`` which of the given ones they are,
        and a problem for each box that was changed or left out.
    """
    limit = np.array([width, height, width, height], np.float64)
    clipped = np.clip(boxes, 0.0, limit)
    stored = clipped.astype(np.float32)
    has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    keep = has_area & (stored[:, 2] > stored[:, 0]) & (stored[:, 3] > stored[:, 1])
    moved = np.abs(clipped - boxes).max(axis=1, initial=0.0) > _ROUNDING_PX
    problems = [
        _problem(boxes[index], bool(has_area[index]), bool(keep[index]), (width, height), source)
        for index in np.flatnonzero(~keep | moved)
    ]
    return stored[keep], keep, problems


def _problem(
    box: NDArray[np.float64], has_area: bool, kept: bool, size: tuple[int, int], source: str
) -> DataProblem:
    corners = ", ".join(f"{value:.1f}" for value in box)
    if not has_area:
        return DataProblem("zero_area_box", source, f"box ({corners}) has no area", "skipped")
    detail = f"box ({corners}) is {'partly ' if kept else ''}outside the {size[0]}×{size[1]} image"
    return DataProblem("box_out_of_range", source, detail, "clipped" if kept else "skipped")
