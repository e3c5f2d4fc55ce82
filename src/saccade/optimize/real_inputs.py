"""Real inputs of a model, for comparing two forms of it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from saccade.data.images import read_image
from saccade.optimize.change import PlanContext
from saccade.pipeline.frames import ArrayFrame
from saccade.pipeline.pipeline import Pipeline

COUNT = 4


def real_inputs(context: PlanContext, count: int = COUNT) -> NDArray[np.float32]:
    """``(N, 3, H, W)`` float32 as the model is fed: calibration images, or the source's frames."""
    config = replace(context.config, execution="sequential", preprocessor="fused", resize="bgr")
    images = context.calibration.images[:count] if context.calibration is not None else ()
    with Pipeline(config) as pipeline:
        read = (ArrayFrame(read_image(image.path), "rgb") for image in images)
        frames = read if images else itertools.islice(pipeline.frames(context.source), count)
        found = []
        for frame in frames:
            box = pipeline.letterbox(frame.hw)
            out = pipeline.preprocessor.allocate(box)
            found.append(np.array(pipeline.preprocessor.run(frame, box, out)))
    alike = [tensor for tensor in found if tensor.shape == found[0].shape]
    return np.concatenate(alike)
