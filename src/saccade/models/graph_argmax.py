"""Put the choice of the best class per pixel into a segmenter's ONNX graph."""

from __future__ import annotations

from dataclasses import replace

import onnx
from onnx import TensorProto, helper

from saccade.errors import ModelError
from saccade.models import graph_reading as graph
from saccade.models.description import ModelDescription

# Class ids that fit into a byte; with more classes the graph gives int32.
BYTE_CLASSES = 256
_PREFIX = "saccade_ids"


def why_not_argmax(model: onnx.ModelProto) -> str | None:
    """None where `with_argmax` works, else the reason why it does not."""
    if len(model.graph.output) != 1:
        return f"the model has {len(model.graph.output)} outputs"
    output = model.graph.output[0]
    if len(graph.dims(output)) != 4:
        return f"the output '{output.name}' is no map of planes (N, classes, H, W)"
    return None


def with_argmax(model: onnx.ModelProto, classes: int) -> onnx.ModelProto:
    """A copy of ``model`` that gives class ids ``(N, H, W)`` instead of planes ``(N, C, H, W)``.

    The classes are put last before they are compared: runtimes that keep channels last inside
    then have nothing to move, and the large planes are never written out.

    Args:
        model: a segmenter whose first output holds a plane of scores per class.
        classes: number of planes, which decides the ids' type: uint8 up to 256, else int32.

    Raises:
        ModelError: it has another output.
    """
    reason = why_not_argmax(model)
    if reason is not None:
        raise ModelError(f"The best class cannot be chosen in the graph: {reason}.")
    result = onnx.ModelProto()
    result.CopyFrom(model)
    planes = result.graph.output[0]
    kind = TensorProto.UINT8 if classes <= BYTE_CLASSES else TensorProto.INT32
    last, best = f"{_PREFIX}_classes_last", f"{_PREFIX}_int64"
    result.graph.node.extend(
        [
            helper.make_node("Transpose", [planes.name], [last], last, perm=[0, 2, 3, 1]),
            helper.make_node("ArgMax", [last], [best], best, axis=3, keepdims=0),
            helper.make_node("Cast", [best], [_PREFIX], _PREFIX, to=kind),
        ]
    )
    dims = graph.dims(planes)
    axes = [dims[axis] or f"{_PREFIX}_{axis}" for axis in (0, 2, 3)]
    del result.graph.output[:]
    result.graph.output.append(helper.make_tensor_value_info(_PREFIX, kind, axes))
    return result


def argmax_description(description: ModelDescription) -> ModelDescription:
    """What is known about a model, once its graph chooses the class."""
    sentence = "The best class per pixel is chosen in the graph."
    return replace(
        description, decode="indices", evidence=(*description.evidence, sentence), transposed=False
    )
