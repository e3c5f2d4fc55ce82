"""Rewrite a YOLOv8-style detector so that its graph ends as those of other families do.

The detections stay the same, so a real model of one family can stand for those of which there is
none at hand: what is decoded from the rewritten model must be what is decoded from the original.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from saccade.errors import ModelError
from saccade.models import graph_reading

# A logit so low that no threshold lets it pass, and no softmax notices it.
_NEVER = -60.0
_TINY = 1e-7


def ssd_style(
    model: onnx.ModelProto,
    *,
    box_format: str = "xyxy",
    input_hw: tuple[int, int] | None = None,
    background: bool = False,
) -> onnx.ModelProto:
    """Boxes ``(1, A, 4)`` and scores ``(1, A, C)`` apart, not suppressed.

    Args:
        model: with one output ``(1, 4 + C, A)``, xywh in pixels and scores.
        box_format: ``"xyxy"``, ``"yxyx"`` or ``"cxcywh"``.
        input_hw: sides of the model's fixed input, where boxes shall be shares of them instead of
            pixels.
        background: put a first column before the scores, so that rows add up to 1, as after a
            softmax. Only the best class of each anchor keeps its score.
    """
    end = _Ending(model)
    boxes, scores = end.anchors()
    if background:
        scores = end.only_best(scores)
        objects = end("ReduceSum", scores, end.constant(np.array([2])), keepdims=1)
        scores = end("Concat", end("Sub", end.constant(np.float32(1)), objects), scores, axis=2)
    boxes = end.formatted(boxes, box_format, input_hw)
    return end.finish({"boxes": boxes, "scores": scores})


def nms_style(
    model: onnx.ModelProto,
    *,
    joined: bool = True,
    fill: int | None = None,
    first_label: int = 0,
    score_threshold: float = 0.001,
    iou_threshold: float = 0.7,
    limit: int = 300,
) -> onnx.ModelProto:
    """Finished detections, best first, suppressed in the graph.

    Args:
        model: as for `ssd_style`.
        joined: one output ``(1, M, 6)`` of xyxy, score and class; else torchvision's ``boxes``
            ``(M, 4)``, ``scores`` ``(M,)`` and integer ``labels`` ``(M,)``.
        fill: rows of a fixed number, those without a detection zero; None for as many rows as
            there are detections.
        first_label: label of the first class.
        score_threshold: of the suppression.
        iou_threshold: of the suppression.
        limit: detections at most.
    """
    end = _Ending(model)
    boxes, scores = end.anchors()
    corners, masked = end.formatted(boxes, "xyxy", None), end.only_best(scores)
    box, class_id, score = end.suppressed(corners, masked, score_threshold, iou_threshold, limit)
    kept = end("Gather", corners, box, axis=1)
    labels = end("Add", class_id, end.constant(np.array(first_label)))
    if not joined:
        flat = end.reshaped(kept, (-1, 4))
        return end.finish({"boxes": flat, "scores": score, "labels": labels}, whole=("labels",))
    columns = [
        end.reshaped(kept, (1, -1, 4)),
        end.reshaped(score, (1, -1, 1)),
        end("Cast", end.reshaped(labels, (1, -1, 1)), to=TensorProto.FLOAT),
    ]
    rows = end("Concat", *columns, axis=2)
    return end.finish({"detections": end.filled(rows, fill) if fill else rows})


def detr_style(
    model: onnx.ModelProto,
    input_hw: tuple[int, int],
    *,
    softmax: bool = False,
    queries: int = 300,
    iou_threshold: float = 0.7,
) -> onnx.ModelProto:
    """Logits ``(1, Q, C)`` and ``pred_boxes`` ``(1, Q, 4)``, shares of the input, cxcywh.

    Args:
        model: as for `ssd_style`.
        input_hw: sides of the model's fixed input, which boxes are shares of.
        softmax: append a last class that means "no object", else each logit is of a sigmoid.
        queries: their number; those left over say that there is nothing.
        iou_threshold: a DETR does not repeat its boxes, so they are suppressed before.
    """
    end = _Ending(model)
    boxes, scores = end.anchors()
    corners, masked = end.formatted(boxes, "xyxy", None), end.only_best(scores)
    box, class_id, score = end.suppressed(corners, masked, 0.001, iou_threshold, queries)
    shares = end.formatted(boxes, "cxcywh", input_hw)
    found = end("Gather", shares, box, axis=1)
    one = end.constant(np.float32(1))
    high = end.reshaped(end("Min", score, end.constant(np.float32(1 - _TINY))), (1, -1, 1))
    none = end("Log", end("Sub", one, high))
    value = end("Log", high) if softmax else end("Sub", end("Log", high), none)
    ids = end.reshaped(class_id, (1, -1, 1))
    columns = end.constant(np.arange(end.classes).reshape(1, 1, -1))
    never = end.constant(np.float32(_NEVER))
    logits = end("Where", end("Equal", ids, columns), value, never)
    if softmax:
        logits = end("Concat", logits, none, axis=2)
    empty = np.full(end.classes + softmax, _NEVER, np.float32)
    empty[-1] = 0.0 if softmax else _NEVER
    return end.finish(
        {
            "logits": end.filled(logits, queries, empty),
            "pred_boxes": end.filled(found, queries, np.full(4, 0.5, np.float32)),
        }
    )


class _Ending:
    """Appends operators to a copy of a model, and replaces its outputs."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._source = model.graph.output[0].name
        self._count = 0
        self.classes = _classes(model)

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = self._name()
        node = helper.make_node(operator, list(inputs), [name], name, **attributes)
        self._model.graph.node.append(node)
        return name

    def constant(self, value: Any) -> str:
        name = self._name()
        self._model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def reshaped(self, name: str, shape: tuple[int, ...]) -> str:
        return self("Reshape", name, self.constant(np.array(shape)))

    def anchors(self) -> tuple[str, str]:
        """Boxes ``(1, A, 4)`` xywh and scores ``(1, A, C)``."""
        rows = self("Transpose", self._source, perm=[0, 2, 1])
        return self.columns(rows, 0, 4), self.columns(rows, 4, 4 + self.classes)

    def columns(self, name: str, start: int, stop: int) -> str:
        ends = (self.constant(np.array([value])) for value in (start, stop, 2))
        return self("Slice", name, *ends)

    def only_best(self, scores: str) -> str:
        """Zero for every class of an anchor but its best."""
        best = self("ArgMax", scores, axis=2, keepdims=1)
        ids = self.constant(np.arange(self.classes).reshape(1, 1, -1))
        return self("Where", self("Equal", best, ids), scores, self.constant(np.float32(0)))

    def formatted(self, xywh: str, box_format: str, input_hw: tuple[int, int] | None) -> str:
        """Boxes in another order, and as shares of the sides where these are given."""
        result = xywh
        if box_format != "cxcywh":
            half = self("Mul", self.columns(xywh, 2, 4), self.constant(np.float32(0.5)))
            centre = self.columns(xywh, 0, 2)
            low, high = self("Sub", centre, half), self("Add", centre, half)
            result = self("Concat", low, high, axis=2)
        if input_hw is not None:
            sides = np.array([input_hw[1], input_hw[0]] * 2, np.float32)
            result = self("Div", result, self.constant(sides))
        if box_format == "yxyx":
            result = self("Gather", result, self.constant(np.array([1, 0, 3, 2])), axis=2)
        return result

    def suppressed(
        self, boxes: str, scores: str, threshold: float, iou: float, limit: int
    ) -> tuple[str, str, str]:
        """Box index, class and score of what is kept, each ``(M,)``, best first."""
        selected = self(
            "NonMaxSuppression",
            boxes,
            self("Transpose", scores, perm=[0, 2, 1]),
            self.constant(np.array([limit])),
            self.constant(np.array([iou], np.float32)),
            self.constant(np.array([threshold], np.float32)),
        )
        class_id = self("Gather", selected, self.constant(np.array(1)), axis=1)
        box = self("Gather", selected, self.constant(np.array(2)), axis=1)
        zero = self("Mul", box, self.constant(np.array(0)))
        place = [self.reshaped(index, (-1, 1)) for index in (zero, box, class_id)]
        score = self("GatherND", scores, self("Concat", *place, axis=1))
        wanted = self("Min", self("Shape", score), self.constant(np.array([limit])))
        count = self._name()
        order = self._name()
        self._model.graph.node.append(
            helper.make_node("TopK", [score, wanted], [count, order], order, axis=0)
        )
        picked = (self("Gather", value, order, axis=0) for value in (box, class_id, score))
        first, second, third = picked
        return first, second, third

    def filled(self, rows: str, count: int, empty: NDArray[np.float32] | None = None) -> str:
        """``(1, count, K)``: ``rows`` and then as many empty ones as are missing."""
        width = self("Shape", rows)
        one = self.constant(np.array([1]))
        present = self("Gather", width, one, axis=0)
        missing = self("Sub", self.constant(np.array([count])), present)
        columns = self("Gather", width, self.constant(np.array([2])), axis=0)
        shape = self("Concat", one, missing, columns, axis=0)
        value = self.constant(np.float32(0) if empty is None else empty.reshape(1, 1, -1))
        return self("Concat", rows, self("Expand", value, shape), axis=1)

    def finish(self, outputs: dict[str, str], whole: tuple[str, ...] = ()) -> onnx.ModelProto:
        """The model with these outputs by name; their shapes are left open.

        Where the model has a tensor of that name already, the output's ends in an underscore.
        """
        graph = self._model.graph
        ranks = self._ranks(outputs)
        taken = {name for node in graph.node for name in node.output}
        del graph.output[:]
        for wanted, tensor in outputs.items():
            name = f"{wanted}_" if wanted in taken else wanted
            graph.node.append(helper.make_node("Identity", [tensor], [name], f"{name}_out"))
            kind = TensorProto.INT64 if wanted in whole else TensorProto.FLOAT
            axes = [f"{name}_{axis}" for axis in range(ranks[wanted])]
            graph.output.append(helper.make_tensor_value_info(name, kind, axes))
        onnx.checker.check_model(self._model)
        return self._model

    def _ranks(self, outputs: dict[str, str]) -> dict[str, int]:
        inferred = onnx.shape_inference.infer_shapes(self._model)
        known = {v.name: len(v.type.tensor_type.shape.dim) for v in inferred.graph.value_info}
        return {name: known[tensor] for name, tensor in outputs.items()}

    def _name(self) -> str:
        self._count += 1
        return f"variant_{self._count}"


def _classes(model: onnx.ModelProto) -> int:
    rows = graph_reading.dims(model.graph.output[0])[1]
    if rows is None:
        raise ModelError("The number of rows of the model's output must be known.")
    return rows - 4
