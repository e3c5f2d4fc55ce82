"""Even out the ranges of channels between layers, which changes nothing but what int8 makes of it.

A channel may be divided by any positive number before a ReLU and multiplied again in the next
layer's weights. Chosen so that all channels of the activation between have the same range, none is
left with a handful of levels (after Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", 2019, section 4.1; here by measured activations instead of
weights, because weights have a step per channel anyway).
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from saccade.optimize.quantization.activations import Ranges
from saccade.optimize.quantization.layers import attribute

# A channel that hardly ever answers gets no larger factor than this.
MOST = 1e3


def equalized(model: onnx.ModelProto, ranges: Ranges) -> tuple[onnx.ModelProto, int]:
    """A copy whose channels have even ranges wherever only a ReLU lies between two convolutions.

    Args:
        model: float, every node named.
        ranges: of its activations.

    Returns:
        The copy, and how many activations were evened out.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in copy.graph.initializer}
    uses = _uses(copy)
    changed = 0
    for first, relu, second in _pairs(copy, weights, uses):
        scale = _factors(ranges, relu.output[0] if relu is not None else first.output[0])
        if scale is None or len(scale) != weights[first.input[1]].dims[0]:
            continue
        for name in first.input[1:3]:
            _multiply(weights[name], scale, axis=0)
        depthwise = attribute(second, "group", 1) > 1
        _multiply(weights[second.input[1]], np.reciprocal(scale), axis=0 if depthwise else 1)
        changed += 1
    return copy, changed


def _factors(ranges: Ranges, tensor: str) -> NDArray[np.float32] | None:
    """By what each channel is to be multiplied; their geometric mean is one."""
    if tensor not in ranges:
        return None
    low, high = ranges.of(tensor, per_channel=True)
    width = np.maximum(np.abs(low), np.abs(high)).astype(np.float64)
    live = width > 0
    if not live.any():
        return None
    middle = float(np.exp(np.log(width[live]).mean()))
    factors = np.where(live, middle / np.maximum(width, middle / MOST), 1.0)
    return factors.astype(np.float32)


def _pairs(
    model: onnx.ModelProto,
    weights: dict[str, onnx.TensorProto],
    uses: dict[str, list[onnx.NodeProto]],
) -> list[tuple[onnx.NodeProto, onnx.NodeProto | None, onnx.NodeProto]]:
    found = []
    for first in model.graph.node:
        if not _convolution(first, weights, uses):
            continue
        after = _only(uses, first.output[0])
        relu = after if after is not None and after.op_type == "Relu" else None
        second = _only(uses, relu.output[0]) if relu is not None else after
        if second is not None and _convolution(second, weights, uses):
            group = attribute(second, "group", 1)
            depthwise = group > 1 and group == weights[second.input[1]].dims[0]
            if second.input[0] in (first.output[0], relu.output[0] if relu else "") and (
                group == 1 or depthwise
            ):
                found.append((first, relu, second))
    return found


def _convolution(
    node: onnx.NodeProto,
    weights: dict[str, onnx.TensorProto],
    uses: dict[str, list[onnx.NodeProto]],
) -> bool:
    """Whether it is a convolution whose parameters are its own."""
    return node.op_type == "Conv" and all(
        name in weights and len(uses[name]) == 1 for name in node.input[1:]
    )


def _uses(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    uses: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            uses.setdefault(name, []).append(node)
    for output in model.graph.output:  # read by the outside as well
        uses.setdefault(output.name, []).append(onnx.NodeProto())
    return uses


def _only(uses: dict[str, list[onnx.NodeProto]], tensor: str) -> onnx.NodeProto | None:
    found = uses.get(tensor, [])
    return found[0] if len(found) == 1 else None


def _multiply(tensor: onnx.TensorProto, scale: NDArray[np.float32], axis: int) -> None:
    values = numpy_helper.to_array(tensor)
    shape = [1] * values.ndim
    shape[axis] = -1
    changed = (values * scale.reshape(shape)).astype(values.dtype)
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
