"""Cut a detector's decoding out of its graph, so that it is done for kept boxes only.

A YOLOv8 or YOLO11 graph turns the distributions of every cell into a box, every logit into a
score, and joins them. Of some thousand cells, a frame keeps a handful. Cut after the last
convolutions, the model gives two maps per stride, box distributions ``(N, 4 * bins, H, W)`` and
class logits ``(N, classes, H, W)``, and the task decodes what passes the threshold
(`saccade.tasks.detection_decode.yolov8_raw`). It also frees the output from holding pixels and
scores in one tensor, which int8 cannot represent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper

from saccade.errors import ModelError
from saccade.models import graph_reading as graph
from saccade.models.description import ModelDescription
from saccade.models.graph_constants import Constants
from saccade.models.onnx_model import image_input
from saccade.models.read_outputs import drop_unneeded
from saccade.models.size_rules import Refusal

# Decode of a whole output → decode of the maps that it is made from.
RAW_DECODES = {"yolov8": "yolov8_raw"}
_LEVELS = range(1, 6)


def raw_description(description: ModelDescription) -> ModelDescription:
    """What is known about a model, once it was cut."""
    sentence = "Decoding was cut out of the graph; it is done for boxes above the threshold only."
    return replace(
        description,
        decode=RAW_DECODES[description.decode],
        transposed=False,
        evidence=(*description.evidence, sentence),
    )


def cut_head(model: onnx.ModelProto, classes: int) -> onnx.ModelProto:
    """A copy of ``model`` that ends at its last convolutions.

    Its outputs are pairs of box distributions and class logits, finest map first.

    Args:
        model: with weights, and with a YOLOv8 or YOLO11 head.
        classes: number of classes.

    Raises:
        ModelError: its head is not built as expected.
    """
    try:
        return _cut(model, classes)
    except Refusal as refusal:
        raise ModelError(f"The decoding cannot be cut out of the graph: {refusal}.") from refusal


def can_cut(model: onnx.ModelProto, classes: int) -> str | None:
    """None where `cut_head` finds what it needs, else the reason why it does not."""
    try:
        _pairs(model, classes)
    except Refusal as refusal:
        return str(refusal)
    return None


def _cut(model: onnx.ModelProto, classes: int) -> onnx.ModelProto:
    pairs = _pairs(model, classes)
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    del cut.graph.output[:]
    del cut.graph.value_info[:]
    for name in (name for pair in pairs for name in pair):
        axes = [f"{name}_{axis}" for axis in range(4)]
        value = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, axes)
        cut.graph.output.append(value)
    drop_unneeded(cut.graph)
    return cut


def _pairs(model: onnx.ModelProto, classes: int) -> list[tuple[str, str]]:
    """Output tensors of the box and class convolutions, one pair per map, finest first."""
    if len(model.graph.output) != 1:
        raise Refusal("it has more than one output")
    convolutions, projection = _last_convolutions(model, model.graph.output[0].name)
    constants = Constants(model)
    bins = _bins(projection, constants)
    channels = {
        node.output[0]: constants.shape(node.input[1])[0]
        for node in convolutions
        if node.input[1] in constants
    }
    boxes = [name for name, count in channels.items() if count == 4 * bins]
    scores = [name for name, count in channels.items() if count == classes]
    if classes == 4 * bins:
        raise Refusal("boxes and classes have the same number of channels")
    if len(boxes) != len(scores) or len(boxes) not in _LEVELS:
        raise Refusal(
            f"{len(boxes)} convolutions with {4 * bins} channels (boxes) and {len(scores)} with "
            f"{classes} (classes) lie before its output; as many of one as of the other were "
            "expected"
        )
    return _by_size(model, boxes, scores)


def _last_convolutions(
    model: onnx.ModelProto, output: str
) -> tuple[list[onnx.NodeProto], onnx.NodeProto | None]:
    """The convolutions nearest to an output, and the one that projects distributions, if any."""
    made_by = graph.producers(model)
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    convolutions: list[onnx.NodeProto] = []
    projection: onnx.NodeProto | None = None
    seen, pending = set[str](), [output]
    while pending:
        name = pending.pop()
        node = made_by.get(name)
        # Anchors are reckoned from the shapes of maps; their values do not matter.
        if node is None or name in seen or node.op_type == "Shape":
            continue
        seen.add(name)
        if node.op_type != "Conv":
            pending += node.input
        elif weights.get(node.input[1], (0,))[0] == 1:
            projection = node
            pending.append(node.input[0])
        else:
            convolutions.append(node)
    return convolutions, projection


def _bins(projection: onnx.NodeProto | None, constants: Constants) -> int:
    """Bins of a distance's distribution; 1 where the distance is predicted as it is.

    The projection onto 0, 1, 2, … is the expected value of Generalized Focal Loss
    (Li et al. 2020).
    """
    if projection is None:
        return 1
    weight = constants.array(projection.input[1])
    if not np.array_equal(weight.ravel(), np.arange(weight.size)):
        raise Refusal("its distances are not the expected values of distributions over 0, 1, 2, …")
    return int(weight.size)


def _by_size(model: onnx.ModelProto, boxes: list[str], scores: list[str]) -> list[tuple[str, str]]:
    """Pair the maps of one size, the largest first."""
    spec, _ = image_input(model)
    sizes = {"N": spec.shape[0] or 1, "C": 3, "H": spec.height or 640, "W": spec.width or 640}
    fixed = graph.with_input_shape(model, spec.name, [sizes[axis] for axis in spec.layout])
    shapes = graph.inferred_shapes(fixed)
    area = {name: _area(shapes.get(name, ())) for name in boxes + scores}
    boxes, scores = (sorted(names, key=lambda n: -area[n]) for names in (boxes, scores))
    pairs = list(zip(boxes, scores, strict=True))
    if any(not area[box] or area[box] != area[score] for box, score in pairs):
        raise Refusal("its maps of boxes and of classes differ in size")
    return pairs


def _area(shape: tuple[Any, ...]) -> int:
    return int(shape[2] * shape[3]) if len(shape) == 4 and None not in shape else 0
