"""Frames as the tensors that a model is fed, one after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.pipeline import Pipeline

# Preprocessors that feed the model the same values; one of the user's own is used as it is.
FLOAT_EQUIVALENT = ("numpy", "graph")


def feeding(config: PipelineConfig) -> PipelineConfig:
    """The configuration as what makes a model's float inputs, also where its graph would."""
    config = replace(config, execution="sequential")
    if config.preprocessor in FLOAT_EQUIVALENT:
        return replace(config, preprocessor="fused")
    return config


def tensor_of(pipeline: Pipeline, frame: Any) -> NDArray[np.float32]:
    """One frame as the model's input, ``(1, 3, H, W)`` float32."""
    box = pipeline.letterbox(frame.hw)
    out = pipeline.preprocessor.allocate(box)
    return np.array(pipeline.preprocessor.run(frame, box, out))
