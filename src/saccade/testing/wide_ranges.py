"""Plants wide activation ranges: the same float function, on which one-setting int8 breaks.

A channel between two convolutions may be multiplied by any positive number before a ReLU and
divided again in the next layer's weights (Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", 2019, section 4.1, run backwards). Floats do not mind; eight bits
for a whole tensor do, because a few wide channels leave the others a handful of levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

FACTOR, SHARE = 64.0, 0.05


@dataclass(frozen=True)
class Pair:
    """Two convolutions with nothing but a ReLU between them, by node name."""

    first: str
    relu: str
    second: str


def without_relu6(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose ReLU6 are ReLU, through which scaling passes; the other graph stays."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for node in changed.graph.node:
        if node.op_type == "Clip":
            relu = onnx.helper.make_node("Relu", node.input[:1], node.output, node.name)
            node.CopyFrom(relu)
    read = {name for node in changed.graph.node for name in node.input}
    limits = [n for n in changed.graph.node if n.op_type == "Constant" and n.output[0] not in read]
    for node in limits:
        changed.graph.node.remove(node)
    return changed


def pairs(model: onnx.ModelProto) -> list[Pair]:
    """Every pair of convolutions that a channel can be scaled between, in graph order."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {output.name for output in model.graph.output}

    def only_reader(node: onnx.NodeProto, kind: str) -> onnx.NodeProto | None:
        found = readers.get(node.output[0], [])
        alone = len(found) == 1 and node.output[0] not in outputs
        return found[0] if alone and found[0].op_type == kind else None

    result = []
    for node in model.graph.node:
        relu = only_reader(node, "Relu") if node.op_type == "Conv" else None
        second = only_reader(relu, "Conv") if relu is not None else None
        if relu is not None and second is not None:
            result.append(Pair(node.name, relu.name, second.name))
    return result


def widen(
    model: onnx.ModelProto,
    chosen: Sequence[Pair],
    factor: float = FACTOR,
    share: float = SHARE,
    seed: int = 0,
) -> onnx.ModelProto:
    """A copy that computes the same, with ``share`` of the channels between each pair wider.

    Args:
        model: with ReLUs; see `without_relu6`.
        chosen: some of `pairs`.
        factor: how many times wider.
        share: of the channels, 0-1; at least one.
        seed: which channels.
    """
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    nodes = {node.name: node for node in wide.graph.node}
    weights = {tensor.name: tensor for tensor in wide.graph.initializer}
    random = np.random.default_rng(seed)
    for pair in chosen:
        first, second = nodes[pair.first], nodes[pair.second]
        channels = weights[first.input[1]].dims[0]
        scale = np.ones(channels, np.float32)
        scale[random.permutation(channels)[: max(1, round(share * channels))]] = factor
        for name in first.input[1:3]:
            _multiply(weights[name], scale, axis=0)
        depthwise = weights[second.input[1]].dims[1] == 1 and _groups(second) > 1
        _multiply(weights[second.input[1]], np.reciprocal(scale), axis=0 if depthwise else 1)
    return wide


def _groups(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


def _multiply(tensor: onnx.TensorProto, scale: NDArray[np.float32], axis: int) -> None:
    values = numpy_helper.to_array(tensor)
    shape = [1] * values.ndim
    shape[axis] = -1
    changed = (values * scale.reshape(shape)).astype(values.dtype)
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
