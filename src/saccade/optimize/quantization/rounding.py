"""Eight-bit rounding in NumPy and in ONNX, to simulate what a quantizer does to one tensor."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

LEVELS = 255
# Of a weight, on either side of zero.
WEIGHT_STEPS = 127
TINY = 1e-12


def rounded_weights(
    weights: NDArray[np.float32], axis: int, steps: int = WEIGHT_STEPS
) -> NDArray[np.float32]:
    """Symmetric int8 per channel, and back; ``steps`` on either side of zero."""
    integers, scale = integer_weights(weights, axis, steps)
    return np.asarray(integers * _along(scale, weights.ndim, axis), np.float32)


def integer_weights(
    weights: NDArray[np.float32], axis: int, steps: int = WEIGHT_STEPS
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 per channel: the integers, and ``(channels,)`` steps."""
    others = tuple(i for i in range(weights.ndim) if i != axis)
    largest = np.abs(weights).max(axis=others)
    scale: NDArray[np.float32] = np.maximum(largest / steps, TINY).astype(np.float32)
    found = np.rint(weights / _along(scale, weights.ndim, axis))
    return np.clip(found, -steps, steps).astype(np.int8), scale


def rounding_nodes(
    model: onnx.ModelProto,
    tensor: str,
    low: NDArray[np.float32],
    high: NDArray[np.float32],
) -> str:
    """Append nodes that round ``tensor`` to 8 bits and back; the name of the result.

    Args:
        model: changed in place; the nodes come last, so sort it before it is used.
        tensor: what to round.
        low: ``()`` or ``(C,)`` smallest values, of the tensor or of each channel.
        high: likewise.
    """
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    scale = np.maximum((high - low) / LEVELS, TINY).astype(np.float32)
    zero = np.clip(np.rint(-low / scale), 0, LEVELS).astype(np.uint8)
    stem = f"{tensor}/rounded"
    names = [f"{stem}/scale", f"{stem}/zero"]
    for name, value in zip(names, (scale, zero), strict=True):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    first = helper.make_node("QuantizeLinear", [tensor, *names], [f"{stem}/q"], f"{stem}/q")
    second = helper.make_node("DequantizeLinear", [f"{stem}/q", *names], [stem], f"{stem}/dq")
    for node in (first, second):
        if scale.ndim:
            node.attribute.append(helper.make_attribute("axis", 1))
        model.graph.node.append(node)
    return stem


def _along(values: NDArray[np.float32], rank: int, axis: int) -> NDArray[np.float32]:
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)
