"""Decodes of detectors whose graph already gives boxes: SSD-style, DETR-style, finished ones.

SSD-style heads give a box and scores for every anchor and need suppression. DETR-style heads give
them for every query and need none (Carion et al. 2020). Finished detections come out of a graph
that suppresses by itself. What the outputs mean is in
`saccade.models.description.BoxOutputs`; the rules are those of `saccade.tasks.detection_decode`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.models.description import BoxOutputs, ModelDescription
from saccade.tasks.detection_decode import Array, Candidates, Decode, logit, xyxy

# Rounding in a logarithm must not drop what the exact comparison would keep.
_SLACK = 1e-3


def box_decode(name: str, outputs: BoxOutputs, filter_first: bool) -> Decode:
    """The decode ``name`` for a model with these outputs.

    Args:
        name: one of `saccade.models.families.BOX_DECODES`.
        outputs: what the model's outputs mean.
        filter_first: turn only what passes the threshold into probabilities and boxes; else
            everything, as commonly written. Both find the same.
    """
    if name == "nms_inside":
        return partial(_finished, outputs)
    return partial(_filter_first if filter_first else _common, outputs)


def graph_outputs(description: ModelDescription) -> BoxOutputs:
    """What a model gives once `saccade.models.nms_graph` has put NMS behind it."""
    inner = description.outputs
    if inner is None:
        return BoxOutputs(scores=0, box_format="cxcywh")
    return BoxOutputs(scores=0, box_format=inner.box_format, box_unit=inner.box_unit)


def _filter_first(
    spec: BoxOutputs, outputs: Sequence[Array], threshold: float, input_hw: tuple[int, int]
) -> Candidates:
    """What may pass is found on the scores as they are; the rest is never converted."""
    boxes, scores = _dense(spec, outputs)
    rows = _may_pass(scores, spec, threshold)
    found, class_ids, best = _above(_probabilities(scores[rows], spec), spec, threshold)
    return corners(boxes[rows[found]], spec, input_hw), best, class_ids


def _common(
    spec: BoxOutputs, outputs: Sequence[Array], threshold: float, input_hw: tuple[int, int]
) -> Candidates:
    """The same as usually written: convert everything, then filter."""
    boxes, scores = _dense(spec, outputs)
    placed = corners(boxes, spec, input_hw)
    found, class_ids, best = _above(_probabilities(scores, spec), spec, threshold)
    return placed[found], best, class_ids


def _finished(
    spec: BoxOutputs, outputs: Sequence[NDArray[Any]], threshold: float, input_hw: tuple[int, int]
) -> Candidates:
    """Detections that the graph has suppressed: they only have to be read."""
    boxes, scores, labels = _finished_parts(spec, outputs)
    if spec.count is not None:
        valid = int(outputs[spec.count].reshape(-1)[0])
        boxes, scores, labels = boxes[:valid], scores[:valid], labels[:valid]
    class_ids = labels.astype(np.int64) - spec.first_label
    # Exporters fill up a fixed number of rows with label -1 or score 0.
    found = np.flatnonzero((scores > threshold) & (class_ids >= 0))
    return corners(boxes[found], spec, input_hw), scores[found], class_ids[found]


def corners(boxes: Array, spec: BoxOutputs, input_hw: tuple[int, int]) -> Array:
    """Boxes ``(N, 4)`` in the model's convention as xyxy in input pixels."""
    if spec.box_format == "cxcywh":
        boxes = xyxy(boxes)
    elif spec.box_format == "yxyx":
        boxes = boxes[:, [1, 0, 3, 2]]
    if spec.box_unit == "normalized":
        boxes = boxes * np.array([input_hw[1], input_hw[0]] * 2, np.float32)
    return boxes


def _dense(spec: BoxOutputs, outputs: Sequence[Array]) -> tuple[Array, Array]:
    """Boxes ``(A, 4)`` and scores ``(A, C)`` of the one image."""
    if spec.joined:
        rows = outputs[spec.boxes]
        rows = rows.reshape(-1, rows.shape[-1]).astype(np.float32, copy=False)
        return rows[:, :4], rows[:, 4:]
    boxes = outputs[spec.boxes].reshape(-1, 4).astype(np.float32, copy=False)
    scores = outputs[spec.scores].reshape(len(boxes), -1).astype(np.float32, copy=False)
    return boxes, scores


def _finished_parts(
    spec: BoxOutputs, outputs: Sequence[NDArray[Any]]
) -> tuple[Array, Array, NDArray[Any]]:
    if spec.joined:
        rows = outputs[spec.boxes]
        rows = rows.reshape(-1, rows.shape[-1]).astype(np.float32, copy=False)
        box, score, label = spec.columns
        return rows[:, box : box + 4], rows[:, score], rows[:, label]
    boxes = outputs[spec.boxes].reshape(-1, 4).astype(np.float32, copy=False)
    scores = outputs[spec.scores].reshape(-1).astype(np.float32, copy=False)
    if spec.labels is None:
        return boxes, scores, np.full(len(scores), spec.first_label)
    return boxes, scores, outputs[spec.labels].reshape(-1)


def _may_pass(scores: Array, spec: BoxOutputs, threshold: float) -> NDArray[np.int64]:
    """Rows that could hold a score above the threshold, told without a single exponential."""
    best: Array = _objects(scores, spec).max(axis=1)
    if spec.scores_as == "probabilities":
        return np.flatnonzero(best > threshold)
    least = logit(threshold) - _SLACK
    if spec.scores_as == "sigmoid":
        return np.flatnonzero(best > least)
    if spec.background == "none":
        return np.arange(len(scores))
    # A class's share is at most what it would be if there were only it and the background.
    return np.flatnonzero(best - scores[:, _background_column(spec)] > least)


def _probabilities(scores: Array, spec: BoxOutputs) -> Array:
    """Scores ``(A, C)`` as probabilities of the real classes."""
    if spec.scores_as == "probabilities":
        return _objects(scores, spec)
    if spec.scores_as == "sigmoid":
        shares: Array = np.reciprocal(1 + np.exp(-_objects(scores, spec)))
        return shares
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return _objects(shares / shares.sum(axis=1, keepdims=True), spec)


def _objects(scores: Array, spec: BoxOutputs) -> Array:
    """The columns of real classes."""
    if spec.background == "first":
        return scores[:, 1:]
    return scores[:, :-1] if spec.background == "last" else scores


def _background_column(spec: BoxOutputs) -> int:
    return 0 if spec.background == "first" else -1


def _above(
    scores: Array, spec: BoxOutputs, threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Rows, classes and scores above the threshold."""
    if spec.multi_label:
        rows, class_ids = np.nonzero(scores > threshold)
        return rows, class_ids, scores[rows, class_ids]
    best = scores.max(axis=1)
    rows = np.flatnonzero(best > threshold)
    return rows, scores[rows].argmax(axis=1), best[rows]
