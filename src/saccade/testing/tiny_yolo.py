"""A detector with a YOLOv8 head, distributions and all, small enough to build in a test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from saccade.models.files import model_file
from saccade.pipeline.config import PipelineConfig
from saccade.testing.tiny_models import CLASSES, tiny_config

HW = (64, 96)
STRIDES = (8, 16, 32)
BINS = 4


def tiny_yolo(hw: tuple[int, int] = HW) -> onnx.ModelProto:
    """One convolution per branch and stride: ``(1, 3, H, W)`` in, ``(1, 4 + 2, cells)`` out.

    The size is held in constants, as exporters do for a fixed input.
    """
    nodes: list[onnx.NodeProto] = []
    constants = _anchors(hw)
    for stride in STRIDES:
        nodes += _level(stride, constants)
    nodes += _decoding(constants)
    cells = constants["strides"].size
    graph = helper.make_graph(
        nodes,
        "tiny_yolo",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *hw])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 4 + len(CLASSES), cells])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def tiny_yolo_config(folder: Path) -> PipelineConfig:
    """A configuration of `tiny_yolo`, which is written into ``folder``."""
    path = folder / "tiny-yolo.onnx"
    if not path.exists():
        path.write_bytes(tiny_yolo().SerializeToString())
    base = tiny_config(folder, HW)
    description = replace(base.description, stride=STRIDES[-1])
    return replace(base, model=model_file(path), description=description, shape="rect")


def _anchors(hw: tuple[int, int]) -> dict[str, NDArray[np.generic]]:
    points, strides = [], []
    for stride in STRIDES:
        rows, columns = hw[0] // stride, hw[1] // stride
        y, x = np.mgrid[:rows, :columns]
        points.append(np.stack([x.ravel(), y.ravel()]) + 0.5)
        strides.append(np.full(rows * columns, float(stride)))
    return {
        "points": np.concatenate(points, 1)[None].astype(np.float32),
        "strides": np.concatenate(strides)[None, None].astype(np.float32),
    }


def _level(stride: int, constants: dict[str, NDArray[np.generic]]) -> list[onnx.NodeProto]:
    """Two convolutions on the pixels of each cell, joined and flattened."""
    random = np.random.default_rng(stride)
    branches = {"box": 4 * BINS, "class": len(CLASSES)}
    nodes = []
    for branch, channels in branches.items():
        weight = random.normal(0, 2 / stride, (channels, 3, stride, stride))
        name = f"{branch}{stride}"
        constants[f"w_{name}"] = weight.astype(np.float32)
        nodes.append(
            helper.make_node("Conv", ["images", f"w_{name}"], [name], name, strides=[stride] * 2)
        )
    constants["flat"] = np.array([1, sum(branches.values()), -1])
    joined, flat = f"joined{stride}", f"flat{stride}"
    nodes.append(helper.make_node("Concat", [f"box{stride}", f"class{stride}"], [joined], axis=1))
    nodes.append(helper.make_node("Reshape", [joined, "flat"], [flat]))
    return nodes


def _decoding(constants: dict[str, NDArray[np.generic]]) -> list[onnx.NodeProto]:
    """From the levels to boxes in pixels and scores."""
    constants["parts"] = np.array([4 * BINS, len(CLASSES)])
    constants["sides"] = np.array([1, 4, BINS, -1])
    constants["distances"] = np.array([1, 4, -1])
    constants["halves"] = np.array([2, 2])
    constants["two"] = np.array(2, np.float32)
    constants["bins"] = np.arange(BINS, dtype=np.float32).reshape(1, BINS, 1, 1)
    make = helper.make_node
    return [
        make("Concat", [f"flat{stride}" for stride in STRIDES], ["all"], axis=2),
        make("Split", ["all", "parts"], ["raw_boxes", "logits"], axis=1),
        make("Reshape", ["raw_boxes", "sides"], ["by_side"]),
        make("Transpose", ["by_side"], ["by_bin"], perm=[0, 2, 1, 3]),
        make("Softmax", ["by_bin"], ["shares"], axis=1),
        make("Conv", ["shares", "bins"], ["expected"]),
        make("Reshape", ["expected", "distances"], ["distance"]),
        make("Split", ["distance", "halves"], ["before", "after"], axis=1),
        make("Sub", ["points", "before"], ["low"]),
        make("Add", ["points", "after"], ["high"]),
        make("Add", ["low", "high"], ["doubled"]),
        make("Div", ["doubled", "two"], ["centre"]),
        make("Sub", ["high", "low"], ["size"]),
        make("Concat", ["centre", "size"], ["cells"], axis=1),
        make("Mul", ["cells", "strides"], ["pixels"]),
        make("Sigmoid", ["logits"], ["scores"]),
        make("Concat", ["pixels", "scores"], ["output0"], axis=1),
    ]
