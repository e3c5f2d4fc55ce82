"""Look at fewer pixels: a smaller input, or one of another aspect."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from saccade.optimize.change import Effect, Ordinary, PlanContext, Prediction, by_stage
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.pipeline import input_hw

# Share of the model's own size, and what the longer side is squeezed to beyond that: an aspect
# alone costs about what the smaller size does, but it costs other objects.
STEPS = ((0.8, 1.0), (0.65, 1.0), (1.0, 0.8), (0.8, 0.8))
# A step costs YOLO detectors two to eight points of mAP on COCO, more than most goals allow. Each
# lossy trial makes the next one's bound stricter, so the unlikely ones come last.
ODDS = 0.05


@dataclass(frozen=True)
class LowerResolution(Ordinary):
    """A smaller input; small objects suffer first, so only labels can allow it.

    Attributes:
        input_size: longer side of the input before it is squeezed, pixels.
        squeeze: factor on the longer side alone; below 1 the frame's aspect is changed.
    """

    name: ClassVar[str] = "resolution"
    effect: ClassVar[Effect] = "lossy"

    input_size: int
    squeeze: float = 1.0

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """Steps down from the model's own size and aspect, in multiples of the stride."""
        described = context.config.description
        found: dict[tuple[int, int], Self] = {}
        for share, squeeze in STEPS:
            size = round(described.input_size * share / described.stride) * described.stride
            change = cls(size, squeeze)
            # Small models have few multiples: several steps may come to the same input.
            found.setdefault(input_area(change.apply(context)), change)
        return sorted(found.values(), key=lambda change: (-change.input_size, -change.squeeze))

    @property
    def label(self) -> str:
        """Name, size, and aspect where it is another."""
        aspect = f", longer side at {self.squeeze:.0%}" if self.squeeze != 1 else ""
        return f"resolution: {self.input_size}{aspect}"

    def applies(self, context: PlanContext) -> str | None:
        """Smaller than now, and the model must take it."""
        config = context.config
        if config.dynamic_resolution is not None:
            return "the resolution is dynamic already"
        if self.squeeze != 1 and config.description.preprocessing.fit == "center_crop":
            return "the model looks at a crop, whose aspect is the input's"
        target, now = input_area(self.apply(context)), input_area(config)
        if target == now or any(new > old for new, old in zip(target, now, strict=True)):
            return "the input is not larger than that"
        if config.dynamic:
            return None
        if config.model.format != "onnx":
            return f"the shape of a model in {config.model.format} format is fixed"
        from saccade.models.onnx_model import read_onnx
        from saccade.models.reshape import can_reshape

        return can_reshape(read_onnx(config.model.path), target)

    def predict(self, context: PlanContext) -> Prediction:
        """Inference scales with the pixels."""
        height, width = input_area(self.apply(context))
        now = input_area(context.config)
        ratio = height * width / (now[0] * now[1])
        factors = {"infer": ratio, "preprocess": 0.5 + ratio / 2, "postprocess": 0.5 + ratio / 2}
        basis = f"pixels: {ratio:.2f} of now"
        return replace(by_stage(context, factors, basis, factors), odds=ODDS)

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Change the input size and aspect."""
        return replace(context.config, input_size=self.input_size, squeeze=self.squeeze)


def input_area(config: PipelineConfig) -> tuple[int, int]:
    """Height and width of the input of a landscape frame, before a rectangle is cut from it."""
    if config.description.preprocessing.fit != "letterbox":
        return input_hw(config)
    stride = config.description.stride
    return config.input_size, round(config.input_size * config.squeeze / stride) * stride
