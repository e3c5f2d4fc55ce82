"""Letterbox to the frame's aspect instead of a square: fewer grey pixels to look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from saccade.optimize.change import Effect, PlanContext, Prediction, StepByStep, Tried, by_stage
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.geometry import letterbox


@dataclass(frozen=True)
class RectLetterbox(StepByStep):
    """Cut whole strides of grey off the square letterbox; the scale stays the same.

    The border is context that the model was trained with, so cutting it all shows in accuracy
    (see docs/decisions). ``strides`` of it stay: the tight one is tried first, and where its loss
    cannot be bounded, one stride of border is left.
    """

    name: ClassVar[str] = "rect_letterbox"

    strides: int = 0

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """Tight first; the search climbs to a border where accuracy asks for it."""
        return [cls(0)]

    @property
    def effect(self) -> Effect:
        """Without any border accuracy is at stake; with one, next to nothing changes."""
        return "near_lossless" if self.strides else "lossy"

    def next_rung(self, tried: Sequence[Tried], context: PlanContext) -> RectLetterbox | None:
        """One stride of border, where none was too little."""
        return None if self.strides else RectLetterbox(1)

    @property
    def label(self) -> str:
        """Name and border."""
        return f"rect_letterbox: {'one stride of border' if self.strides else 'tight'}"

    def applies(self, context: PlanContext) -> str | None:
        """The frame must not be square and the model must take another shape."""
        config = context.config
        if config.shape == "rect":
            return "already in use"
        if config.description.preprocessing.fit != "letterbox":
            return "the model takes no letterbox"
        target = self._target(context)
        if target == (config.input_size, config.input_size):
            return "the frames leave no border to cut"
        if config.dynamic:
            return None
        if config.model.format != "onnx":
            return "the converted model's shape is fixed"
        from saccade.models.onnx_model import read_onnx
        from saccade.models.reshape import can_reshape

        return can_reshape(read_onnx(config.model.path), target)

    def predict(self, context: PlanContext) -> Prediction:
        """Inference scales with the pixels, and so does what preprocessing does after scaling."""
        height, width = self._target(context)
        ratio = height * width / context.config.input_size**2
        basis = f"pixels: {height}x{width} of {context.config.input_size}²"
        partly = 0.5 + ratio / 2
        return by_stage(
            context,
            {"infer": ratio, "preprocess": partly, "postprocess": partly},
            basis,
            {"infer": ratio, "preprocess": ratio, "postprocess": ratio},
        )

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Change the letterbox."""
        return replace(context.config, shape="rect", margin=self._margin(context))

    def _margin(self, context: PlanContext) -> int:
        return self.strides * context.config.description.stride

    def _target(self, context: PlanContext) -> tuple[int, int]:
        described = context.config.description
        return letterbox(
            context.frame_hw,
            context.config.input_size,
            described.stride,
            "rect",
            described.preprocessing.anchor,
            self._margin(context),
        ).input_hw
