"""Recognize detectors whose graph gives boxes: SSD-style, DETR-style, or with NMS inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import onnx

from saccade.errors import ModelError
from saccade.models import graph_reading as graph
from saccade.models.coco_names import COCO_CATEGORIES, COCO_NAMES
from saccade.models.description import BoxOutputs, InputSpec, Preprocessing
from saccade.models.families import RGB_LETTERBOX, Family
from saccade.models.graph_constants import Constants
from saccade.models.output_conventions import Convention, find_convention
from saccade.models.output_probe import observe
from saccade.models.output_roles import MOST_QUERIES, Roles, find_roles
from saccade.models.overrides import OUTPUT_SETTINGS

_STRETCHED = replace(RGB_LETTERBOX, fit="stretch")
_IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), fit="stretch")


def _like(name: str, decode: str, usual: Preprocessing, iou_threshold: float = 0.7) -> Family:
    return Family(name, decode, 0, 1, False, False, usual, iou_threshold)


_FINISHED = _like("a detector with NMS inside", "nms_inside", RGB_LETTERBOX)
_SSD = _like("SSD", "ssd", _STRETCHED, 0.45)
_SPLIT = _like("a YOLO with boxes and scores apart", "ssd", RGB_LETTERBOX)
_DETR = _like("DETR", "detr", _IMAGENET)
_RT_DETR = _like("RT-DETR", "detr", _STRETCHED)

EXPECTED = (
    "separate boxes (1, anchors, 4) and scores (1, anchors, classes); finished detections "
    "(1, boxes, 6) or (boxes, 7), or boxes (1, boxes, 4), scores and labels"
)


@dataclass(frozen=True)
class BoxHead:
    """A reading of a detector's outputs.

    Attributes:
        family: what it is like.
        outputs: what they mean.
        class_count: classes that the outputs leave room for; None where they do not say.
        evidence: sentences on what it rests on.
    """

    family: Family
    outputs: BoxOutputs
    class_count: int | None
    evidence: tuple[str, ...]


def find_box_head(
    model: onnx.ModelProto,
    spec: InputSpec,
    hw: tuple[int, int],
    names: int | None,
    overrides: Mapping[str, Any],
) -> BoxHead | None:
    """What the outputs of ``model`` mean, or None where they hold no boxes of such a detector.

    Args:
        model: with its weights, since it is run on test patterns.
        spec: its image input.
        hw: the input size to run it at.
        names: number of class names, where they are known.
        overrides: what the user said, validated.

    Raises:
        ModelError: what the user said contradicts the outputs.
    """
    roles = find_roles(observe(model, spec, hw))
    if roles is None:
        return None
    decode = overrides.get("decode") or _decode(model, roles)
    if (decode == "nms_inside") != (roles.kind == "finished"):
        raise ModelError(
            f"The decode {decode} does not fit the outputs, which look like "
            f"{'finished detections' if roles.kind == 'finished' else 'scores of every class'}."
        )
    found = find_convention(roles, decode == "detr", names)
    said = {key: overrides[key] for key in OUTPUT_SETTINGS if key in overrides}
    outputs = replace(found.outputs, **said)
    return BoxHead(
        _family(decode, outputs),
        outputs,
        _class_count(model, roles, found, outputs, names),
        (_headline(decode, roles), *found.evidence, *_suppression(model)),
    )


def suppresses(model: onnx.ModelProto) -> bool:
    """Whether NMS is in the graph."""
    return any(node.op_type == "NonMaxSuppression" for node in model.graph.node)


def _decode(model: onnx.ModelProto, roles: Roles) -> str:
    if roles.kind == "finished":
        return "nms_inside"
    few = roles.predictions <= MOST_QUERIES
    return "detr" if few and (roles.boxes is roles.scores or _chooses(model)) else "ssd"


def _chooses(model: onnx.ModelProto) -> bool:
    """Whether queries are in the graph: attention, or the best of many candidates."""
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {n.output[0] for n in model.graph.node if n.op_type == "Constant"}
    return any(
        node.op_type == "TopK"
        or (node.op_type == "MatMul" and not constants.intersection(node.input))
        for node in model.graph.node
    )


def _family(decode: str, outputs: BoxOutputs) -> Family:
    if decode == "nms_inside":
        return _FINISHED
    if decode == "detr":
        return _RT_DETR if outputs.background == "none" else _DETR
    return _SPLIT if outputs.background == "none" else _SSD


def _class_count(
    model: onnx.ModelProto,
    roles: Roles,
    found: Convention,
    outputs: BoxOutputs,
    names: int | None,
) -> int | None:
    if found.columns:
        return found.columns - (outputs.background != "none")
    return _suppressed_classes(model) or (None if names else _labels_reach(roles, outputs))


def _labels_reach(roles: Roles, outputs: BoxOutputs) -> int | None:
    """At least how many classes there are, where a label on test images is beyond COCO's 80."""
    if roles.labels is None and not outputs.joined:
        return None
    label = outputs.columns[2]
    rows = roles.labels.rows() if roles.labels else roles.scores.rows()[:, label : label + 1]
    highest = int(rows.max()) - outputs.first_label + 1 if len(rows) else 0
    if highest <= len(COCO_NAMES):
        return None
    return max(highest, len(COCO_CATEGORIES) + 1 - outputs.first_label)


def _suppressed_classes(model: onnx.ModelProto) -> int | None:
    """Classes in the scores that NonMaxSuppression gets, where it gets them apart."""
    shapes = graph.inferred_shapes(model)
    for node in model.graph.node:
        if node.op_type == "NonMaxSuppression":
            shape = shapes.get(node.input[1], ())
            return shape[1] if len(shape) == 3 and shape[1] is not None and shape[1] > 1 else None
    return None


def _headline(decode: str, roles: Roles) -> str:
    parts = [f"boxes in {roles.boxes.name!r}"]
    if roles.scores is not roles.boxes:
        parts.append(f"scores in {roles.scores.name!r}")
    if roles.labels is not None:
        parts.append(f"labels in {roles.labels.name!r}")
    if roles.count is not None:
        parts.append(f"their number in {roles.count.name!r}")
    if roles.row == "batch_box_label_score":
        parts.append("its columns being image, box, class and score")
    shape = "x".join(map(str, roles.boxes.values[0].shape))
    return f"Decode {decode}: {', '.join(parts)}; the boxes' shape is {shape}."


def _suppression(model: onnx.ModelProto) -> tuple[str, ...]:
    """What the NMS in the graph drops before anybody sees it."""
    constants = Constants(model)
    for node in model.graph.node:
        if node.op_type != "NonMaxSuppression":
            continue
        given = dict(zip(("", "", "boxes per class", "IoU", "score"), node.input, strict=False))
        values = {
            what: constants.array(name).ravel()[0]
            for what, name in given.items()
            if what and name in constants
        }
        listed = ", ".join(f"{what} {value:g}" for what, value in values.items())
        return (f"NMS in the graph{', limits: ' + listed if listed else ''}.",)
    return ()
