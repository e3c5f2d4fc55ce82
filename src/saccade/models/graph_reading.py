"""Questions about an ONNX graph: its inputs, its shapes, what happens before its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import helper, shape_inference

from saccade.models.description import Dim
from saccade.models.onnx_save import light

# Operators that only move, join or cast values, or squash scores: no box arithmetic.
_NEUTRAL = frozenset(
    "Transpose Concat Reshape Flatten Squeeze Unsqueeze Slice Split Gather "  # noqa: SIM905
    "Identity Cast QuantizeLinear DequantizeLinear Sigmoid".split()
)


def dims(value: onnx.ValueInfoProto) -> tuple[Dim, ...]:
    """The declared shape of an input or output; None for each dynamic dimension."""
    return tuple(
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None
        for d in value.type.tensor_type.shape.dim
    )


def dtype_name(value: onnx.ValueInfoProto) -> str:
    """NumPy name of the element type, ``"float32"``."""
    element = value.type.tensor_type.elem_type
    if element == onnx.TensorProto.UNDEFINED:
        return "undefined"
    return str(np.dtype(helper.tensor_dtype_to_np_dtype(element)))


def real_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that a caller feeds (old exporters list the weights among the inputs too)."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """For each tensor, the node that makes it."""
    return {name: node for node in model.graph.node for name in node.output}


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Everything a node reads; the graphs inside it may name any value of the outer one."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            yield from (value.name for value in inner.output)
            for part in inner.node:
                yield from reads(part)


def operators(model: onnx.ModelProto) -> dict[tuple[str, str], onnx.NodeProto]:
    """A node of each operator that a model uses, by domain and name.

    Of its graph, of the graphs inside nodes, and of its functions; the functions themselves are
    no operators that a runtime would have to have.
    """
    nodes = [*model.graph.node, *(node for inner in model.functions for node in inner.node)]
    found = {(node.domain, node.op_type): node for outer in nodes for node in _with_inner(outer)}
    within = {(function.domain, function.name) for function in model.functions}
    return {kind: node for kind, node in found.items() if kind not in within}


def operator_label(node: onnx.NodeProto, model: onnx.ModelProto) -> str:
    """An operator for people: ``"Gelu (opset 17)"``, and with its domain where not ONNX's own."""
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    name = f"{node.domain}:{node.op_type}" if node.domain else node.op_type
    return f"{name} (opset {opsets.get(node.domain, 1)})"


def _with_inner(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    yield node
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            for part in inner.node:
                yield from _with_inner(part)


def boxes_raw(model: onnx.ModelProto, output: str) -> bool:
    """Whether ``output`` comes from convolutions without any arithmetic but sigmoids."""
    made_by = producers(model)
    seen: set[str] = set()
    pending = [output]
    while pending:
        node = made_by.get(pending.pop())
        if node is None or node.op_type == "Conv" or node.name + node.output[0] in seen:
            continue
        if node.op_type not in _NEUTRAL:
            return False
        seen.add(node.name + node.output[0])
        data_inputs = node.input if node.op_type == "Concat" else node.input[:1]
        pending.extend(data_inputs)
    return True


def first_layer_channels(model: onnx.ModelProto, name: str) -> int | None:
    """Input channels of the convolution that reads ``name`` directly, where there is one."""
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[0] == name and node.input[1] in weights:
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            return int(weights[node.input[1]][1] * groups)
    return None


def scaled_in_graph(model: onnx.ModelProto, name: str) -> bool:
    """Whether the graph itself divides the pixels of ``name`` by 255 before anything else."""
    constants = {t.name: t for t in model.graph.initializer if not t.dims or list(t.dims) == [1]}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    for node in model.graph.node:
        if name not in node.input:
            continue
        if node.op_type in ("Cast", "Transpose", "Identity"):
            return scaled_in_graph(model, node.output[0])
        if node.op_type not in ("Div", "Mul") or node.input[1] not in constants:
            continue
        factor = float(onnx.numpy_helper.to_array(constants[node.input[1]]).ravel()[0])
        if np.isclose(factor if node.op_type == "Div" else 1 / factor, 255, rtol=0.01):
            return True
    return False


def with_input_shape(
    model: onnx.ModelProto, name: str, shape: Sequence[int | str]
) -> onnx.ModelProto:
    """A copy whose input ``name`` has ``shape``, and whose other shapes are left to be inferred.

    Weights are shared by content, not by reference; the given model is not changed.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for value in copy.graph.input:
        if value.name == name:
            set_dims(value, shape)
    for value in copy.graph.output:
        rank = len(value.type.tensor_type.shape.dim)
        set_dims(value, [f"{value.name}_{axis}" for axis in range(rank)])
    return copy


def set_dims(value: onnx.ValueInfoProto, shape: Sequence[int | str]) -> None:
    """Declare the shape of an input or output, in place; text stands for a dynamic dimension."""
    declared = value.type.tensor_type.shape.dim
    del declared[:]
    for size in shape:
        dim = declared.add()
        if isinstance(size, str):
            dim.dim_param = size
        else:
            dim.dim_value = size


def inferred_shapes(model: onnx.ModelProto) -> dict[str, tuple[Dim, ...]]:
    """Shapes of all tensors that ONNX's shape inference finds, inputs and outputs included."""
    inferred = shape_inference.infer_shapes(light(model), data_prop=True)
    graph = inferred.graph
    return {
        value.name: dims(value)
        for value in [*graph.input, *graph.value_info, *graph.output]
        if value.type.tensor_type.HasField("shape")
    }
