"""Bias correction: what rounding the weights does to the mean of every channel is taken back.

The mean of a layer's output moves by the weights' rounding error times the mean of its input, and
a bias is there to be moved back (Nagel et al., "Data-Free Quantization Through Weight Equalization
and Bias Correction", 2019, section 4.2). The means are measured on calibration inputs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from saccade.optimize.quantization.activations import values_of
from saccade.optimize.quantization.contract import Samples
from saccade.optimize.quantization.layers import Layer, attribute, layers, weights_of

IMAGES = 16


def corrected(
    model: onnx.ModelProto, quantized: onnx.ModelProto, samples: Samples
) -> onnx.ModelProto:
    """A copy of a QDQ model with its biases corrected.

    Args:
        model: the float model.
        quantized: made from it, with int32 biases, node names kept.
        samples: calibration inputs.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(quantized)
    nodes = {node.name: node for node in copy.graph.node}
    made_by = {name: node for node in copy.graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in copy.graph.initializer}
    means = _input_means(model, samples)
    for layer in layers(model):
        node = nodes.get(layer.node)
        if node is None or layer.kind not in ("Conv", "Gemm") or layer.taken not in means:
            continue
        found = [made_by.get(name) for name in node.input[1:3]]
        weight, bias = (*found, None, None)[:2]
        if not (_dequantized(weight, constants) and _dequantized(bias, constants)):
            continue
        assert weight is not None and bias is not None
        rough = _values(weight, constants, layer.channel_axis)
        error = rough - weights_of(model, layer.weight)
        shift = _shift(model, layer, error, means[layer.taken])
        _move(constants[bias.input[0]], -shift, numpy_helper.to_array(constants[bias.input[1]]))
    return copy


def _dequantized(node: onnx.NodeProto | None, constants: Mapping[str, object]) -> bool:
    return (
        node is not None
        and node.op_type == "DequantizeLinear"
        and all(name in constants for name in node.input)
    )


def _values(
    node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto], axis: int
) -> NDArray[np.float32]:
    """What a DequantizeLinear of constants gives; symmetric, so that there is no zero point."""
    integers = numpy_helper.to_array(constants[node.input[0]]).astype(np.float32)
    scale = numpy_helper.to_array(constants[node.input[1]])
    shape = [1] * integers.ndim
    if scale.ndim:
        shape[axis] = -1
    return np.asarray(integers * scale.reshape(shape), np.float32)


def _shift(
    model: onnx.ModelProto,
    layer: Layer,
    error: NDArray[np.float32],
    mean: NDArray[np.float32],
) -> NDArray[np.float32]:
    """``(channels,)`` by how much the mean of every output channel moved."""
    if layer.kind == "Gemm":
        by_input = error if layer.channel_axis == 0 else error.T
        return np.asarray(by_input @ mean, np.float32)
    node = next(n for n in model.graph.node if n.name == layer.node)
    group = attribute(node, "group", 1)
    outputs, inputs = error.shape[:2]
    summed = error.reshape(outputs, inputs, -1).sum(axis=2)
    # Output channels of one group see the inputs of that group.
    seen = mean.reshape(group, inputs).repeat(outputs // group, axis=0)
    return np.asarray((summed * seen).sum(axis=1), np.float32)


def _move(tensor: onnx.TensorProto, by: NDArray[np.float32], scale: NDArray[np.float32]) -> None:
    """Add to an int32 bias whose unit is ``scale``."""
    before = numpy_helper.to_array(tensor)
    steps = np.rint(by / np.maximum(scale, 1e-30)).astype(np.int64)
    limits = np.iinfo(np.int32)
    after = np.clip(before.astype(np.int64) + steps, limits.min, limits.max).astype(np.int32)
    tensor.CopyFrom(numpy_helper.from_array(after, tensor.name))


def _input_means(model: onnx.ModelProto, samples: Samples) -> dict[str, NDArray[np.float32]]:
    """Mean of every channel of what layers take, over samples and pixels."""
    sums: dict[str, NDArray[np.float64]] = {}
    chosen = samples[:IMAGES]
    for found in values_of(model, (layer.taken for layer in layers(model)), chosen):
        for name, value in found.items():
            axes = (0, 2, 3) if value.ndim == 4 else tuple(range(value.ndim - 1))
            mean = np.asarray(value, np.float64).mean(axis=axes)
            sums[name] = sums.get(name, 0.0) + mean
    return {name: (total / len(chosen)).astype(np.float32) for name, total in sums.items()}
