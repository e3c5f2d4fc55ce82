"""Write per-channel constants with the rank of the tensors that they meet.

Exporters write the slopes of a PReLU as ``(C, 1, 1)``, which ONNX broadcasts against ``(N, C, H,
W)``. OpenVINO's CPU plug-in then runs the operator in planar layout only, and puts a reorder before
and after it, since its convolutions keep channels last. As ``(1, C, 1, 1)`` the values are the same
and the reorders are gone: found in an operator profile of ESPNet, where they took a quarter of the
time.
"""

from __future__ import annotations

import numpy as np
import onnx

from saccade.models import graph_reading as graph
from saccade.models.graph_constants import Constants, drop_unused_constants

_ELEMENTWISE = frozenset(("PRelu", "Add", "Sub", "Mul", "Div", "Max", "Min"))


def count_low_rank(model: onnx.ModelProto) -> int:
    """How many inputs of elementwise operators `with_full_rank` would rewrite."""
    return len(_low_rank(model))


def with_full_rank(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` whose per-channel constants have as many axes as what they meet.

    Broadcasting puts axes of length one in front, so the results are the same to the last bit.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    constants = Constants(result)
    written: dict[tuple[str, int], str] = {}
    for index, position, rank in _low_rank(model):
        node = result.graph.node[index]
        name = node.input[position]
        if (name, rank) not in written:
            array = constants.array(name)
            full = array.reshape((1,) * (rank - array.ndim) + array.shape)
            written[name, rank] = constants.add(f"{name}_full_rank", np.ascontiguousarray(full))
        node.input[position] = written[name, rank]
    drop_unused_constants(result)
    return result


def _low_rank(model: onnx.ModelProto) -> list[tuple[int, int, int]]:
    """Node index, input position and wanted rank of every constant that lacks axes.

    A constant of one element is left alone, because runtimes treat it as a scalar.
    """
    shapes = graph.inferred_shapes(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found = []
    for index, node in enumerate(model.graph.node):
        if node.op_type not in _ELEMENTWISE:
            continue
        rank = max((len(shapes.get(n, ())) for n in node.input if n not in constants), default=0)
        for position, name in enumerate(node.input):
            tensor = constants.get(name)
            if tensor is not None and 0 < len(tensor.dims) < rank and np.prod(tensor.dims) > 1:
                found.append((index, position, rank))
    return found
