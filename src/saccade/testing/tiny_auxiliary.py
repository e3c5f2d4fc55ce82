"""A segmenter with a second head that nobody reads, as torchvision's exports have one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from saccade.models.files import model_file
from saccade.pipeline.config import PipelineConfig
from saccade.testing.tiny_segmenter import HW, tiny_segmenter, tiny_segmenter_config

CLASSES = 4


def tiny_auxiliary() -> onnx.ModelProto:
    """`tiny_segmenter` with ``aux``, another ``(1, 4, H, W)`` from the same features."""
    model = tiny_segmenter()
    weights = np.random.default_rng(1).normal(0, 0.5, (CLASSES, 6, 3, 3)).astype(np.float32)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(weights, "third"))
    node = helper.make_node("Conv", ["active", "third"], ["aux"], "auxiliary", pads=[1] * 4)
    graph.node.append(node)
    shape = [1, CLASSES, *HW]
    graph.output.append(helper.make_tensor_value_info("aux", TensorProto.FLOAT, shape))
    return model


def tiny_auxiliary_config(folder: Path) -> PipelineConfig:
    """A configuration of `tiny_auxiliary`, which is written into ``folder``."""
    path = folder / "tiny-auxiliary.onnx"
    if not path.exists():
        path.write_bytes(tiny_auxiliary().SerializeToString())
    return replace(tiny_segmenter_config(folder), model=model_file(path))
