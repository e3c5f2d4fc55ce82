"""Real inputs of a model, for comparing two forms of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from saccade.optimize.change import PlanContext
from saccade.optimize.training_frames import FrameSource

COUNT = 4


def real_inputs(context: PlanContext, count: int = COUNT) -> NDArray[np.float32]:
    """``(N, 3, H, W)`` float32 as the model is fed: calibration images, or the source's frames.

    Raises:
        DataError: there are none.
    """
    source = FrameSource.of(context)
    # Nothing is learnt from these, so whatever the source shows will do where there is no image.
    source = replace(source, video=None if source.images else context.source)
    return source.load(count).tensors
