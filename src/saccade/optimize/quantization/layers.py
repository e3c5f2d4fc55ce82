"""The layers of an ONNX graph that int8 is about: nodes with weights, and heads. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

KINDS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
ACTIVATIONS = ("Relu", "Clip", "LeakyRelu")


@dataclass(frozen=True)
class Layer:
    """A node with weights.

    Attributes:
        node: its name.
        kind: operator.
        taken: name of the activation that it takes.
        given: name of what it gives, after an activation that runtimes fuse with it.
        weight: name of the weights' initializer.
        depthwise: every channel has its own filter.
        channel_axis: axis of the weights that counts output channels.
    """

    node: str
    kind: str
    taken: str
    given: str
    weight: str
    depthwise: bool
    channel_axis: int


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every node has a name of its own."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    seen: set[str] = set()
    for index, node in enumerate(copy.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
        seen.add(node.name)
    return copy


def layers(model: onnx.ModelProto) -> list[Layer]:
    """Every node with constant weights, in graph order."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    readers = _readers(model)
    found = []
    for node in model.graph.node:
        if node.op_type not in KINDS or len(node.input) < 2 or node.input[1] not in constants:
            continue
        dims = constants[node.input[1]].dims
        group = attribute(node, "group", 1)
        found.append(
            Layer(
                node=node.name,
                kind=node.op_type,
                taken=node.input[0],
                given=_after_activation(node.output[0], readers),
                weight=node.input[1],
                depthwise=node.op_type == "Conv" and group > 1 and dims[1] == 1,
                channel_axis=channel_axis(node, len(dims)),
            )
        )
    return found


def channel_axis(node: onnx.NodeProto, rank: int) -> int:
    """Axis of a layer's weights that counts output channels; they have ``rank`` axes.

    Of a transposed convolution with groups, it counts those of one group: see `output_channels`.
    """
    if node.op_type == "MatMul":
        return rank - 1
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return 1 if node.op_type == "ConvTranspose" else 0


def output_channels(
    node: onnx.NodeProto, dims: Sequence[int]
) -> tuple[int, NDArray[np.intp]] | None:
    """The axis of a layer's weights that tells output channels apart.

    A transposed convolution's weights are ``(C_in, C_out / groups, ...)``: with groups, index j
    of axis 1 is a channel of every group. Only where each group gives one channel do the weights
    have an axis that tells them apart, which is that of the input channels.

    Args:
        node: a layer of `KINDS`.
        dims: shape of its weights.

    Returns:
        The axis, and ``(dims[axis],)`` the output channel that each index of it belongs to; None
        where there is no such axis.
    """
    group = attribute(node, "group", 1)
    if node.op_type == "ConvTranspose" and group > 1:
        if dims[1] != 1:
            return None
        return 0, np.arange(dims[0]) // (dims[0] // group)
    axis = channel_axis(node, len(dims))
    return axis, np.arange(dims[axis])


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """An integer attribute of a node."""
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def weights_of(model: onnx.ModelProto, name: str) -> NDArray[np.float32]:
    """An initializer's values.

    Raises:
        KeyError: there is none of that name.
    """
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor)
    raise KeyError(name)


def head_nodes(model: onnx.ModelProto, depth: int) -> list[str]:
    """Nodes fewer than ``depth`` layers with weights away from an output."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    weighted = {layer.node for layer in layers(model)}
    seen: dict[str, int] = {}
    queue = [(output.name, 0) for output in model.graph.output]
    while queue:
        tensor, at = queue.pop()
        node = made_by.get(tensor)
        if node is None or at >= depth or seen.get(node.name, depth) <= at:
            continue
        seen[node.name] = at
        step = 1 if node.name in weighted else 0
        queue += [(name, at + step) for name in node.input]
    return list(seen)


def _readers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def _after_activation(tensor: str, readers: dict[str, list[onnx.NodeProto]]) -> str:
    following = readers.get(tensor, [])
    fused = len(following) == 1 and following[0].op_type in ACTIVATIONS
    return str(following[0].output[0]) if fused else tensor
