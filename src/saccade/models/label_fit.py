"""How well the detections of one image agree with its labels, as one smooth number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SAME_OBJECT = 0.5


def label_fit(
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
    class_ids: NDArray[np.integer],
    true_boxes: NDArray[np.floating],
    true_class_ids: NDArray[np.integer],
) -> float:
    """F1 of one image in which a detection counts by its score and its overlap.

    Average precision of a single image jumps with every hit or miss. This moves with confidence
    too, which is where a mild mistake (swapped colour channels) shows first: on 64 COCO images
    it separates RGB from BGR where average precision cannot. It compares settings of one model;
    it is not an accuracy to report.

    Args:
        boxes: ``(N, 4)`` xyxy pixels, after NMS.
        scores: ``(N,)`` from 0 to 1.
        class_ids: ``(N,)``.
        true_boxes: ``(M, 4)`` xyxy pixels.
        true_class_ids: ``(M,)``.

    Returns:
        0 to 1; NaN where the image has no labels, so that it is left out of comparisons.
    """
    if not len(true_boxes):
        return float("nan")
    if not len(boxes):
        return 0.0
    overlap = _iou(boxes.astype(np.float64), true_boxes.astype(np.float64))
    overlap[class_ids[:, None] != true_class_ids[None, :]] = 0.0
    found = 0.0
    for index in np.argsort(-scores, kind="stable"):
        best = int(overlap[index].argmax())
        if overlap[index, best] >= _SAME_OBJECT:
            found += float(scores[index]) * float(overlap[index, best])
            overlap[:, best] = 0.0
    return 2.0 * found / (len(true_boxes) + float(scores.sum()))


def _iou(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of ``(N, 4)`` and ``(M, 4)`` boxes, ``(N, M)``."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared: NDArray[np.float64] = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.prod(each[:, 2:] - each[:, :2], axis=1) for each in (first, second)]
    union: NDArray[np.float64] = areas[0][:, None] + areas[1][None, :] - shared
    ratio: NDArray[np.float64] = shared / np.maximum(union, 1e-9)
    return ratio
