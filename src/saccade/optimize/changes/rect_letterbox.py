"""Letterbox to the frame's aspect instead of a square: fewer grey pixels to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from saccade.data.frame_shapes import frame_shapes
from saccade.optimize.change import Effect, PlanContext, Prediction, StepByStep, Tried, by_stage
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.geometry import letterbox
from saccade.pipeline.sessions import KEPT_SESSIONS


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
        targets = self._targets(context)
        square = (config.input_size, config.input_size)
        if set(targets) == {square}:
            return "the frames leave no border to cut"
        if len(targets) > KEPT_SESSIONS:
            return (
                f"the frames come to {len(targets)} shapes of input, and {KEPT_SESSIONS} can be "
                "kept ready; the others would be compiled again and again"
            )
        if config.dynamic:
            return None
        if config.model.format != "onnx":
            return f"the shape of a model in {config.model.format} format is fixed"
        from saccade.models.onnx_model import read_onnx
        from saccade.models.reshape import can_reshape

        model = read_onnx(config.model.path)
        return next(filter(None, (can_reshape(model, target) for target in targets)), None)

    def predict(self, context: PlanContext) -> Prediction:
        """Inference scales with the pixels, and so does what preprocessing does after scaling."""
        targets, size = self._targets(context), context.config.input_size
        pixels = sum(h * w * count for (h, w), count in targets.items()) / sum(targets.values())
        ratio = pixels / size**2
        (height, width), _ = max(targets.items(), key=lambda item: item[1])
        most = "" if len(targets) == 1 else f" most often, {len(targets)} shapes"
        basis = f"pixels: {height}x{width} of {size}²{most}"
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

    def _targets(self, context: PlanContext) -> Counter[tuple[int, int]]:
        """The shapes of input that the source's frames come to, with how many frames have each."""
        shapes = () if context.video else frame_shapes(context.source)
        found: Counter[tuple[int, int]] = Counter()
        for frame_hw, count in shapes or ((context.frame_hw, 1),):
            found[self._target(context, frame_hw)] += count
        return found

    def _target(self, context: PlanContext, frame_hw: tuple[int, int]) -> tuple[int, int]:
        described = context.config.description
        return letterbox(
            frame_hw,
            context.config.input_size,
            described.stride,
            "rect",
            described.preprocessing.anchor,
            self._margin(context),
        ).input_hw
