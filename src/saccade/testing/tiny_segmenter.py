"""A segmenter small enough to build in a test, with the PReLU that exporters write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from saccade.models.description import Preprocessing
from saccade.models.files import model_file
from saccade.pipeline.config import PipelineConfig
from saccade.testing.tiny_models import tiny_config

HW = (64, 96)
CLASSES = ("road", "tree", "sky", "car")
_FEATURES = 6


def tiny_segmenter(hw: tuple[int, int] = HW) -> onnx.ModelProto:
    """Two convolutions with a PReLU between: ``(1, 3, H, W)`` in, ``(1, 4, H, W)`` out.

    The slopes are of shape ``(C, 1, 1)``, as PyTorch exports them.
    """
    random = np.random.default_rng(0)
    constants = {
        "first": random.normal(0, 0.3, (_FEATURES, 3, 3, 3)),
        "slopes": random.uniform(0.1, 0.5, (_FEATURES, 1, 1)),
        "second": random.normal(0, 0.5, (len(CLASSES), _FEATURES, 1, 1)),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["images", "first"], ["features"], "first", pads=[1] * 4),
            helper.make_node("PRelu", ["features", "slopes"], ["active"], "act"),
            helper.make_node("Conv", ["active", "second"], ["planes"], "second"),
        ],
        "tiny_segmenter",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *hw])],
        [helper.make_tensor_value_info("planes", TensorProto.FLOAT, [1, len(CLASSES), *hw])],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def tiny_segmenter_config(folder: Path) -> PipelineConfig:
    """A configuration of `tiny_segmenter`, which is written into ``folder``."""
    path = folder / "tiny-segmenter.onnx"
    if not path.exists():
        path.write_bytes(tiny_segmenter().SerializeToString())
    base = tiny_config(folder, HW)
    description = replace(
        base.description,
        preprocessing=Preprocessing(fit="stretch"),
        decode="planes",
        stride=32,
        class_names=CLASSES,
        input_hw=HW,
    )
    return replace(base, task="segmentation", model=model_file(path), description=description)
