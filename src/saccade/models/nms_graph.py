"""Put class-wise NMS at the end of a detector's graph, as ONNX's NonMaxSuppression.

Boxes stay in the convention that the model gives them in: overlaps do not depend on it. Only
candidates above the score threshold reach the suppression, so the threshold is part of the graph;
a session for another threshold needs a graph of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from saccade.errors import ModelError
from saccade.models.description import BoxOutputs, ModelDescription

# Decodes whose boxes and scores are in the graph and not suppressed yet.
SUPPRESSIBLE = ("yolov8", "yolov5", "ssd")
OUTPUT = "saccade_detections"
# The first opset with GatherND; NonMaxSuppression came one before, and axes as inputs later.
_LEAST_OPSET, _AXES_AS_INPUT = 11, 18
# A score that no threshold lets pass.
_NEVER = -1.0


def with_nms(
    model: onnx.ModelProto,
    description: ModelDescription,
    *,
    score_threshold: float,
    iou_threshold: float,
    max_detections: int,
) -> onnx.ModelProto:
    """A copy of ``model`` that gives detections ``(M, 6)``: box, score, class id, unsorted.

    The same boxes as `saccade.tasks.nms` keeps, but for more than ``max_detections`` in all,
    which the graph allows for each class. Their four numbers are as the model gives them: order
    and unit of ``description.outputs``, centre and size in pixels for the YOLO family.

    Raises:
        ModelError: the model's outputs are of another kind, or its opset is too old.
    """
    if description.decode not in SUPPRESSIBLE:
        raise ModelError(
            f"NMS cannot be put behind a {description.decode} model; "
            f"known are {', '.join(SUPPRESSIBLE)}."
        )
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    build = _Builder(copy)
    boxes, scores = _CANDIDATES[description.decode](build, description, score_threshold)
    if not (description.outputs or BoxOutputs()).multi_label:
        scores = _only_best(build, scores, len(description.class_names))
    centred = description.outputs is None or description.outputs.box_format == "cxcywh"
    selected = build(
        "NonMaxSuppression",
        boxes,
        scores,
        build.constant(np.array([max_detections], np.int64)),
        build.constant(np.array([iou_threshold], np.float32)),
        build.constant(np.array([score_threshold], np.float32)),
        center_point_box=int(centred),
    )
    _declare_output(build, _rows(build, boxes, scores, selected))
    return copy


def _rows(build: _Builder, boxes: str, scores: str, selected: str) -> str:
    """``(M, 6)`` from what was selected, ``(M, 3)`` of batch, class and box."""
    box = build("Gather", selected, build.constant(np.array(2)), axis=1)
    kept = build("Gather", boxes, box, axis=1)
    score = build("GatherND", scores, selected)
    class_id = build("Gather", selected, build.constant(np.array([1])), axis=1)
    return build(
        "Concat",
        build.reshaped(kept, (-1, 4)),
        build.reshaped(score, (-1, 1)),
        build("Cast", class_id, to=TensorProto.FLOAT),
        axis=1,
    )


def _declare_output(build: _Builder, name: str) -> None:
    graph = build.model.graph
    graph.node.append(helper.make_node("Identity", [name], [OUTPUT], OUTPUT))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["detections", 6]))


def _yolov8(build: _Builder, description: ModelDescription, threshold: float) -> tuple[str, str]:
    """Boxes ``(1, K, 4)`` and scores ``(1, C, K)`` of the anchors above the threshold."""
    along = 2 if description.transposed else 1
    rows = build.floats(build.outputs[0])
    scores = build.cut(rows, 4, None, axis=along)
    found = build.above(build.largest(scores, along), threshold)
    kept = build("Gather", rows, found, axis=3 - along)
    if not description.transposed:
        kept = build("Transpose", kept, perm=[0, 2, 1])
    boxes, scores = build.cut(kept, 0, 4, axis=2), build.cut(kept, 4, None, axis=2)
    return boxes, build("Transpose", scores, perm=[0, 2, 1])


def _yolov5(build: _Builder, description: ModelDescription, threshold: float) -> tuple[str, str]:
    """The same of anchors whose objectness is above it; class scores are at most 1."""
    rows = build.floats(build.outputs[0])
    if description.transposed:
        rows = build("Transpose", rows, perm=[0, 2, 1])
    objectness = build.reshaped(build.cut(rows, 4, 5, axis=2), (1, -1))
    kept = build("Gather", rows, build.above(objectness, threshold), axis=1)
    scores = build("Mul", build.cut(kept, 5, None, axis=2), build.cut(kept, 4, 5, axis=2))
    return build.cut(kept, 0, 4, axis=2), build("Transpose", scores, perm=[0, 2, 1])


def _ssd(build: _Builder, description: ModelDescription, threshold: float) -> tuple[str, str]:
    """The same of separate or joined outputs."""
    spec = description.outputs or BoxOutputs()
    boxes, scores = (build.floats(build.outputs[index]) for index in (spec.boxes, spec.scores))
    if spec.joined:
        boxes, scores = build.cut(boxes, 0, 4, axis=-1), build.cut(scores, 4, None, axis=-1)
    columns = len(description.class_names) + (spec.background != "none")
    boxes = build.reshaped(boxes, (1, -1, 4))
    scores = build.reshaped(scores, (1, -1, columns))
    if spec.scores_as != "probabilities":
        activation = "Sigmoid" if spec.scores_as == "sigmoid" else "Softmax"
        scores = build(activation, scores, **({"axis": 2} if activation == "Softmax" else {}))
    if spec.background == "first":
        scores = build.cut(scores, 1, None, axis=2)
    elif spec.background == "last":
        scores = build.cut(scores, 0, columns - 1, axis=2)
    found = build.above(build.largest(scores, 2), threshold)
    kept = build("Gather", scores, found, axis=1)
    return build("Gather", boxes, found, axis=1), build("Transpose", kept, perm=[0, 2, 1])


_CANDIDATES = {"yolov8": _yolov8, "yolov5": _yolov5, "ssd": _ssd}


def _only_best(build: _Builder, scores: str, classes: int) -> str:
    """Scores ``(1, C, K)`` in which each box keeps that of its best class only."""
    ids = build.constant(np.arange(classes, dtype=np.int64).reshape(1, -1, 1))
    best = build("ArgMax", scores, axis=1, keepdims=1)
    never = build.constant(np.array(_NEVER, np.float32))
    return build("Where", build("Equal", best, ids), scores, never)


class _Builder:
    """Appends nodes to a model, under names of its own."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.outputs = [value.name for value in model.graph.output]
        self._opset = max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self._count = 0
        if self._opset < _LEAST_OPSET:
            raise ModelError(
                f"NMS in the graph needs opset {_LEAST_OPSET} or later, and the model has "
                f"{self._opset}. Export it again with a later opset."
            )

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        name = self._name()
        node = helper.make_node(operator, list(inputs), [name], name, **attributes)
        self.model.graph.node.append(node)
        return name

    def constant(self, value: NDArray[Any]) -> str:
        """Add an initializer."""
        name = self._name()
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def floats(self, name: str) -> str:
        """As float32, whatever the model computes in."""
        return self("Cast", name, to=TensorProto.FLOAT)

    def reshaped(self, name: str, shape: tuple[int, ...]) -> str:
        """With another shape."""
        return self("Reshape", name, self.constant(np.array(shape, np.int64)))

    def cut(self, name: str, start: int, stop: int | None, axis: int) -> str:
        """A part of one axis; to its end where ``stop`` is None."""
        end = np.iinfo(np.int64).max if stop is None else stop
        ends = (self.constant(np.array([value], np.int64)) for value in (start, end, axis))
        return self("Slice", name, *ends)

    def largest(self, name: str, axis: int) -> str:
        """Largest value along an axis, which is dropped."""
        if self._opset >= _AXES_AS_INPUT:
            return self("ReduceMax", name, self.constant(np.array([axis], np.int64)), keepdims=0)
        return self("ReduceMax", name, axes=[axis], keepdims=0)

    def above(self, scores: str, threshold: float) -> str:
        """Indices ``(K,)`` of scores ``(1, A)`` that are above a threshold."""
        passed = self("Greater", scores, self.constant(np.array(threshold, np.float32)))
        return self("Gather", self("NonZero", passed), self.constant(np.array(1)), axis=0)

    def _name(self) -> str:
        self._count += 1
        return f"saccade_nms_{self._count}"
