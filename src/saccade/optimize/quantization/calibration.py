"""Real frames as the model sees them: to calibrate on, and to see whether those are of the kind."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import LabelledImage
from saccade.data.frame_roles import OFFSETS, STEP
from saccade.data.sequences import pixels_of
from saccade.errors import DataError, RuntimeFailure
from saccade.optimize.measuring import role_run
from saccade.optimize.model_inputs import feeding, tensor_of
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.frames import ArrayFrame
from saccade.pipeline.pipeline import Pipeline

VIDEO_FRAMES = 16
# Images of the other role that the calibration images are compared with.
COMPARED = 12

Tensors = list[NDArray[np.float32]]


@dataclass(frozen=True)
class CalibrationData:
    """Where calibration inputs come from.

    Attributes:
        images: that only calibration may look at.
        video: whose frames for calibration are used as well, None where there is none.
        compared: images as the model will see them; only looked at to tell the domain.
    """

    images: tuple[LabelledImage, ...]
    video: str | None = None
    compared: tuple[LabelledImage, ...] = ()


def calibration_tensors(config: PipelineConfig, data: CalibrationData) -> Tensors:
    """Every calibration input, ``(1, 3, H, W)`` float32 each.

    Raises:
        RuntimeFailure: there is none.
        DataError: there is a single one.
    """
    tensors = input_tensors(config, data)
    if len(tensors) == 1:
        raise DataError(
            "There is a single calibration image, whose ranges no other image would keep to. Give "
            "some tens of images of the kind that the model will see."
        )
    return tensors


def input_tensors(config: PipelineConfig, data: CalibrationData) -> Tensors:
    """The same where nothing is calibrated, which a single image serves as well.

    Raises:
        RuntimeFailure: there is none.
    """
    with Pipeline(feeding(config)) as pipeline:
        tensors = [tensor_of(pipeline, ArrayFrame(p, "rgb")) for p in pixels_of(data.images)]
        if data.video is not None:
            tensors += [tensor_of(pipeline, frame) for frame in _spread(pipeline, data.video)]
    if not tensors:
        raise RuntimeFailure("There are no frames to calibrate on.")
    return tensors


def compared_tensors(config: PipelineConfig, data: CalibrationData) -> Tensors:
    """Inputs that calibration did not see, to compare with."""
    with Pipeline(feeding(config)) as pipeline:
        return [tensor_of(pipeline, ArrayFrame(p, "rgb")) for p in pixels_of(data.compared)]


def _spread(pipeline: Pipeline, video: str) -> Iterator[Any]:
    """The video's frames that serve calibration, `VIDEO_FRAMES` of them at most."""
    if pipeline.config.tracker is not None:
        stop = role_run(video, "calibration").stop
        return itertools.islice(pipeline.frames(video), 0, stop, STEP)
    start = OFFSETS["calibration"]
    return itertools.islice(pipeline.frames(video), start, start + STEP * VIDEO_FRAMES, STEP)
