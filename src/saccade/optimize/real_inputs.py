"""Real inputs of a model, for comparing two forms of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from saccade.models.conversions.contract import ConversionRequest
from saccade.optimize.change import PlanContext
from saccade.optimize.training_frames import FrameSource
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.pipeline import letterbox_of

COUNT = 4


def real_inputs(
    context: PlanContext, count: int = COUNT, hw: tuple[int, int] | None = None
) -> NDArray[np.float32]:
    """``(N, 3, H, W)`` float32 as the model is fed: calibration images, or the source's frames.

    Args:
        context: whose model they are for.
        count: how many at most.
        hw: height and width, by default the model's own.

    Raises:
        DataError: there are none.
    """
    source = FrameSource.of(context)
    if hw is not None and hw != context.config.description.own_hw:
        source = replace(source, config=_filling(source.config, hw))
    # Nothing is learnt from these, so whatever the source shows will do where there is no image.
    source = replace(source, video=None if source.images else context.source)
    return source.load(count).tensors


def conversion_request(context: PlanContext, runtime: str) -> ConversionRequest:
    """What a conversion of the context's model for a runtime needs.

    Where a runtime takes any size, the model keeps its own, which sessions then change as they
    need to. Elsewhere the file is for the size in use.

    Raises:
        DataError: there are no frames to compare both forms on.
    """
    hw = context.config.description.own_hw
    if not context.runtimes[runtime].dynamic:
        hw = letterbox_of(context.config, context.frame_hw).input_hw
    return ConversionRequest(context.folder, hw, real_inputs(context, hw=hw))


def _filling(config: PipelineConfig, hw: tuple[int, int]) -> PipelineConfig:
    """Every frame as an input of that size, whatever its own aspect."""
    fitted = replace(config.description.preprocessing, fit="stretch")
    described = replace(
        config.description, preprocessing=fitted, input_size=max(hw), input_hw=hw, stride=1
    )
    return replace(config, description=described, input_size=max(hw))
