"""Decodes of detector outputs: from raw tensors to candidate boxes above a score.

Each decode takes the outputs of one image and a threshold and returns boxes ``(N, 4)`` xyxy in
input pixels, scores ``(N,)`` and class ids ``(N,)``. There are two ways of writing each: the
common one, which converts every box and then filters, and one that filters first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Candidates = tuple[Array, Array, NDArray[np.int64]]
Decode = Callable[[Sequence[Array], float, tuple[int, int]], Candidates]

YOLOX_STRIDES = (8, 16, 32)


def yolov8(outputs: Sequence[Array], threshold: float, input_hw: tuple[int, int]) -> Candidates:
    """YOLOv8 and YOLO11: ``(1, 4 + classes, anchors)``, boxes xywh in input pixels."""
    return passing(outputs[0][0], threshold)[0]


def passing(rows: Array, threshold: float) -> tuple[Candidates, NDArray[np.int64]]:
    """Candidates of decoded ``(4 + classes, anchors)`` rows, and which anchors they are."""
    best = rows[4:].max(axis=0)
    found = np.flatnonzero(best > threshold)
    class_ids = rows[4:, found].argmax(axis=0)
    return (xyxy(rows[:4, found].T), best[found], class_ids), found


def yolov8_common(
    outputs: Sequence[Array], threshold: float, input_hw: tuple[int, int]
) -> Candidates:
    """The same as usually written: transpose, convert everything, then filter."""
    return passing_common(outputs[0][0], threshold)[0]


def passing_common(rows: Array, threshold: float) -> tuple[Candidates, NDArray[np.int64]]:
    """`passing` as usually written."""
    rows = np.transpose(rows)
    scores = rows[:, 4:]
    class_ids = np.argmax(scores, axis=1)
    best = np.max(scores, axis=1)
    boxes = xyxy(rows[:, :4])
    found = np.flatnonzero(best > threshold)
    return (boxes[found], best[found], class_ids[found]), found


def yolov8_raw(outputs: Sequence[Array], threshold: float, input_hw: tuple[int, int]) -> Candidates:
    """The maps that a YOLOv8 or YOLO11 head joins, see `saccade.models.raw_head`.

    Pairs of ``(1, 4 * bins, H, W)`` distributions of the distances from a cell's centre to the
    box's left, top, right and bottom, in cells, and ``(1, classes, H, W)`` logits. The threshold
    is compared with logits, and only what passes is turned into scores and boxes.
    """
    levels = [
        _raw_level(boxes[0], logits[0], logit(threshold), input_hw[0] / boxes.shape[2])
        for boxes, logits in zip(outputs[::2], outputs[1::2], strict=True)
    ]
    boxes, scores, class_ids = (np.concatenate(part) for part in zip(*levels, strict=True))
    return boxes, scores, class_ids


def _raw_level(boxes: Array, logits: Array, threshold: float, stride: float) -> Candidates:
    columns = boxes.shape[2]
    boxes, logits = boxes.reshape(len(boxes), -1), logits.reshape(len(logits), -1)
    best = logits.max(axis=0)
    found = np.flatnonzero(best > threshold)
    class_ids = logits[:, found].argmax(axis=0)
    scores = 1 / (1 + np.exp(-best[found]))
    centre = np.stack([found % columns, found // columns]).astype(np.float32) + 0.5
    distance = _expected_distance(boxes[:, found].reshape(4, len(boxes) // 4, len(found)))
    corners = np.concatenate([centre - distance[:2], centre + distance[2:]]) * np.float32(stride)
    return corners.T, scores, class_ids


def _expected_distance(distribution: Array) -> Array:
    """Mean of softmax distributions ``(4, bins, N)``; a single bin is the distance itself."""
    bins = distribution.shape[1]
    if bins == 1:
        return distribution[:, 0]
    shares = np.exp(distribution - distribution.max(axis=1, keepdims=True))
    weighted = np.einsum("kbn,b->kn", shares, np.arange(bins, dtype=np.float32))
    expected: Array = weighted / shares.sum(axis=1)
    return expected


def logit(score: float) -> float:
    """The logit of a score, infinite at 0 and 1 and beyond."""
    if score <= 0:
        return -math.inf
    return math.log(score / (1 - score)) if score < 1 else math.inf


def yolov5(outputs: Sequence[Array], threshold: float, input_hw: tuple[int, int]) -> Candidates:
    """YOLOv5 to v7: ``(1, anchors, 5 + classes)``, score = objectness times class score."""
    rows = outputs[0][0]
    rows = rows[rows[:, 4] > threshold]  # class scores are at most 1
    return _objectness(rows, threshold, xyxy(rows[:, :4]))


def yolov5_common(
    outputs: Sequence[Array], threshold: float, input_hw: tuple[int, int]
) -> Candidates:
    """The same, converting everything before filtering."""
    rows = outputs[0][0]
    return _objectness(rows, threshold, xyxy(rows[:, :4]))


def yolox(outputs: Sequence[Array], threshold: float, input_hw: tuple[int, int]) -> Candidates:
    """YOLOX: ``(1, cells, 5 + classes)``; xy are offsets in grid cells, wh logarithms of them."""
    rows = outputs[0][0]
    found = np.flatnonzero(rows[:, 4] > threshold)
    grid, stride = yolox_grid(input_hw)
    return _objectness(rows[found], threshold, _grid_boxes(rows[found], grid[found], stride[found]))


def yolox_common(
    outputs: Sequence[Array], threshold: float, input_hw: tuple[int, int]
) -> Candidates:
    """The same, building the grid and converting everything for each image."""
    rows = outputs[0][0]
    grid, stride = yolox_grid.__wrapped__(input_hw)
    return _objectness(rows, threshold, _grid_boxes(rows, grid, stride))


def _grid_boxes(rows: Array, grid: Array, stride: Array) -> Array:
    center = (rows[:, :2] + grid) * stride
    # A garbage model can put anything here; infinite boxes are dropped by the caller's clip.
    size = np.exp(np.minimum(rows[:, 2:4], 20)) * stride
    return xyxy(np.concatenate([center, size], axis=1))


@lru_cache(maxsize=64)
def yolox_grid(input_hw: tuple[int, int]) -> tuple[Array, Array]:
    """Grid offsets ``(cells, 2)`` and strides ``(cells, 1)`` of an input size."""
    grids, strides = [], []
    for stride in YOLOX_STRIDES:
        rows, columns = input_hw[0] // stride, input_hw[1] // stride
        ys, xs = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
        grids.append(np.stack([xs, ys], axis=-1).reshape(-1, 2))
        strides.append(np.full((rows * columns, 1), stride))
    return (
        np.concatenate(grids).astype(np.float32),
        np.concatenate(strides).astype(np.float32),
    )


def _objectness(rows: Array, threshold: float, boxes: Array) -> Candidates:
    scores = rows[:, 5:] * rows[:, 4:5]
    class_ids = scores.argmax(axis=1)
    best = scores.max(axis=1) if len(scores) else np.empty(0, np.float32)
    found = best > threshold
    return boxes[found], best[found], class_ids[found]


def xyxy(xywh: Array) -> Array:
    """Boxes ``(N, 4)`` from centre and size to corners."""
    half = xywh[:, 2:] / 2
    result: Array = np.concatenate([xywh[:, :2] - half, xywh[:, :2] + half], axis=1)
    return result


# Name of the decode → (filter first, as commonly written).
DECODES: dict[str, tuple[Decode, Decode]] = {
    "yolov8": (yolov8, yolov8_common),
    "yolov8_raw": (yolov8_raw, yolov8_raw),
    "yolov5": (yolov5, yolov5_common),
    "yolox": (yolox, yolox_common),
}
