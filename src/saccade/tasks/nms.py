"""Class-wise non-maximum suppression: as commonly written, vectorized, and of the best only.

All take boxes ``(N, 4)`` xyxy, scores ``(N,)`` and class ids ``(N,)`` and return the indices
kept, best score first, ties in input order. They compute IoU with the same float32 formula, so
they keep the same boxes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]
Suppress = Callable[[Boxes, Boxes, NDArray[np.int64], float, int], NDArray[np.int64]]

# Above this many candidates the pairwise matrix is built class by class, and not at all for a
# class that is larger still: its memory grows with the square.
MATRIX_LIMIT = 512
# `nms_top_k` begins with so many times the boxes that are wanted, and multiplies by as much.
TOP_K_FACTOR = 4


def nms_loop(
    boxes: Boxes, scores: Boxes, class_ids: NDArray[np.int64], iou: float, limit: int
) -> NDArray[np.int64]:
    """One class after the other, one kept box after the other."""
    kept: list[int] = []
    for class_id in np.unique(class_ids):
        members = np.flatnonzero(class_ids == class_id)
        order = members[np.argsort(-scores[members], kind="stable")]
        while order.size:
            best, rest = order[0], order[1:]
            kept.append(int(best))
            order = rest[iou_matrix(boxes[best : best + 1], boxes[rest])[0] <= iou]
    result = np.array(sorted(kept), np.int64)
    return result[np.argsort(-scores[result], kind="stable")][:limit]


def nms_vectorized(
    boxes: Boxes, scores: Boxes, class_ids: NDArray[np.int64], iou: float, limit: int
) -> NDArray[np.int64]:
    """All pairs of one class at once; the loop that is left only combines boolean rows."""
    order = np.argsort(-scores, kind="stable")
    if order.size <= MATRIX_LIMIT:
        return order[_greedy(boxes[order], class_ids[order], iou)][:limit]
    keep = np.zeros(order.size, bool)
    for class_id in np.unique(class_ids):
        members = np.flatnonzero(class_ids[order] == class_id)
        ranked = order[members]
        if members.size <= MATRIX_LIMIT:
            keep[members] = _greedy(boxes[ranked], class_ids[ranked], iou)
        else:
            keep[members[_one_by_one(boxes[ranked], iou, limit)]] = True
    return order[keep][:limit]


def nms_top_k(
    boxes: Boxes, scores: Boxes, class_ids: NDArray[np.int64], iou: float, limit: int
) -> NDArray[np.int64]:
    """Suppression among the best candidates only, and among more while too few are kept.

    A box can be suppressed by better ones only, so what is kept of the best is kept of all: the
    result is that of the others, however many candidates are left out.
    """
    count = TOP_K_FACTOR * limit
    while count < len(scores):
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
        best = np.flatnonzero(scores >= least)
        kept = nms_vectorized(boxes[best], scores[best], class_ids[best], iou, limit)
        if len(kept) == limit:
            return best[kept]
        count *= TOP_K_FACTOR
    return nms_vectorized(boxes, scores, class_ids, iou, limit)


def best_first(
    boxes: Boxes, scores: Boxes, class_ids: NDArray[np.int64], iou: float, limit: int
) -> NDArray[np.int64]:
    """No suppression: for detections that the model has suppressed, or never repeats."""
    return np.argsort(-scores, kind="stable")[:limit]


def _one_by_one(boxes: Boxes, iou: float, limit: int) -> list[int]:
    """Indices of the boxes, best first, that survive; no more than could be returned."""
    kept: list[int] = []
    rest = np.arange(len(boxes))
    while rest.size and len(kept) < limit:
        best, rest = rest[0], rest[1:]
        kept.append(int(best))
        rest = rest[iou_matrix(boxes[best : best + 1], boxes[rest])[0] <= iou]
    return kept


def _greedy(boxes: Boxes, class_ids: NDArray[np.int64], iou: float) -> NDArray[np.bool_]:
    """Which of the boxes, best first, survive."""
    overlaps = iou_matrix(boxes, boxes) > iou
    overlaps &= class_ids[:, None] == class_ids[None, :]
    keep = np.ones(len(boxes), bool)
    # Only boxes that overlap a later one can suppress anything.
    for index in np.flatnonzero(np.triu(overlaps, 1).any(axis=1)):
        if keep[index]:
            keep[index + 1 :] &= ~overlaps[index, index + 1 :]
    return keep


def iou_matrix(a: Boxes, b: Boxes) -> Boxes:
    """Intersection over union of every pair, ``(len(a), len(b))`` float32."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.clip(high - low, 0, None)
    intersection = sides[..., 0] * sides[..., 1]
    area_a = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    union = area_a[:, None] + area_b[None, :] - intersection
    result: Boxes = intersection / np.maximum(union, np.float32(1e-9))
    return result


# Decodes whose boxes overlap until NMS has chosen among them.
SUPPRESSED_DECODES = frozenset(("yolov5", "yolov8", "yolov8_raw", "yolov8_seg", "yolox", "ssd"))

# Those that have something to filter before conversion: DETR's queries are many and not suppressed.
FILTERED_DECODES = SUPPRESSED_DECODES | {"detr"}

METHODS: dict[str, Suppress] = {
    "loop": nms_loop,
    "vectorized": nms_vectorized,
    "top_k": nms_top_k,
}
