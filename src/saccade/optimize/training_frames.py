"""Frames to train on: calibration images and the calibration frames of a video, never others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from saccade.data.contract import LabelledImage
from saccade.data.frame_roles import OFFSETS, STEP
from saccade.data.sequences import pixels_of
from saccade.errors import DataError
from saccade.optimize.change import PlanContext
from saccade.optimize.distill import TrainingFrames
from saccade.optimize.model_inputs import feeding, tensor_of
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.frames import ArrayFrame
from saccade.pipeline.pipeline import Pipeline

UNKNOWN = -1
# Fewer images than this teach nothing.
MIN_IMAGES = 8


@dataclass(frozen=True)
class FrameSource:
    """Where the frames come from; small enough to be sent to a worker.

    Attributes:
        config: how frames become tensors.
        images: calibration images.
        labels: index of each image's class in the model's scores, `UNKNOWN` where it has none.
        video: the source, where its calibration frames may be used too.
    """

    config: PipelineConfig
    images: tuple[LabelledImage, ...]
    labels: tuple[int, ...]
    video: str | None

    @classmethod
    def of(cls, context: PlanContext) -> FrameSource:
        """Everything that calibration may look at."""
        images = context.calibration.images if context.calibration is not None else ()
        # Some classifiers have a class for the background in front of the others.
        first = 1 if context.config.description.decode.endswith("+background") else 0
        return cls(
            _whole(context.config),
            images,
            tuple(UNKNOWN if image.label is None else first + image.label for image in images),
            context.source if context.video else None,
        )

    def load(self, count: int) -> TrainingFrames:
        """At most ``count`` frames, images before those of the video.

        Raises:
            DataError: there are none.
        """
        with Pipeline(self.config) as pipeline:
            frames = itertools.islice(self._frames(pipeline), count)
            found = [(tensor_of(pipeline, frame), label) for frame, label in frames]
        if not found:
            raise DataError("There are no frames to train on. Give more data or a video.")
        shape = found[0][0].shape
        alike = [(tensor, label) for tensor, label in found if tensor.shape == shape]
        labels = np.array([label for _, label in alike], np.int64)
        known = bool((labels != UNKNOWN).any())
        return TrainingFrames(np.concatenate([t for t, _ in alike]), labels if known else None)

    def _frames(self, pipeline: Pipeline) -> Iterator[tuple[Any, int]]:
        for pixels, label in zip(pixels_of(self.images), self.labels, strict=True):
            yield ArrayFrame(pixels, "rgb"), label
        if self.video is not None:
            chosen = itertools.islice(
                pipeline.frames(self.video), OFFSETS["calibration"], None, STEP
            )
            yield from ((frame, UNKNOWN) for frame in chosen)


def _whole(config: PipelineConfig) -> PipelineConfig:
    """Frames in the shape that the model was exported for, whatever size is in use."""
    return replace(
        feeding(config),
        shape="square",
        input_size=config.description.input_size,
        squeeze=1.0,
        resize="bgr",
    )
