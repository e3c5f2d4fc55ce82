"""An instance segmenter small enough to build in a test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from saccade.models.files import model_file
from saccade.pipeline.config import PipelineConfig
from saccade.testing.tiny_models import CLASSES, STRIDE, tiny_config

PROTOTYPES = 3
_ROWS = 4 + len(CLASSES) + PROTOTYPES


def tiny_instance_segmenter() -> onnx.ModelProto:
    """Rows ``(1, 4 + 2 + 3, cells)`` of a stride of 8, and prototypes ``(1, 3, H/4, W/4)``.

    Laid out as YOLOv8-seg's, with a dynamic size; what it finds is arbitrary but always the same.
    """
    random = np.random.default_rng(1)
    constants = {
        "weight": random.normal(0, 0.05, (_ROWS, 3, STRIDE, STRIDE)).astype(np.float32),
        "bias": np.array([20, 20, 12, 12, 0.3, 0.3, 1, 0, 0], np.float32),
        "proto_weight": random.normal(0, 0.1, (PROTOTYPES, 3, 4, 4)).astype(np.float32),
        "target": np.array([1, _ROWS, -1]),
    }
    make = helper.make_node
    graph = helper.make_graph(
        [
            make("Conv", ["images", "weight", "bias"], ["features"], "conv", strides=[STRIDE] * 2),
            make("Relu", ["features"], ["active"], "relu"),
            make("Reshape", ["active", "target"], ["output0"], "join"),
            make("Conv", ["images", "proto_weight"], ["output1"], "proto", strides=[4, 4]),
        ],
        "tiny_instance_segmenter",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, "height", "width"])],
        [
            helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, _ROWS, "cells"]),
            helper.make_tensor_value_info("output1", TensorProto.FLOAT, [1, PROTOTYPES, "h", "w"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def tiny_instance_segmenter_config(folder: Path) -> PipelineConfig:
    """A configuration of `tiny_instance_segmenter`, which is written into ``folder``."""
    path = folder / "tiny-instance-segmenter.onnx"
    if not path.exists():
        path.write_bytes(tiny_instance_segmenter().SerializeToString())
    base = tiny_config(folder)
    return replace(
        base,
        task="instance_segmentation",
        model=model_file(path),
        description=replace(base.description, decode="yolov8_seg"),
    )
