"""Look at fewer pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from saccade.optimize.change import Effect, PlanContext, Prediction, by_stage
from saccade.pipeline.config import PipelineConfig

STEPS = (0.8, 0.65)
# A step costs YOLO detectors two to eight points of mAP on COCO, more than most goals allow. Each
# lossy trial makes the next one's bound stricter, so the unlikely ones come last.
ODDS = 0.05


@dataclass(frozen=True)
class LowerResolution:
    """A smaller input; small objects suffer first, so only labels can allow it."""

    name: ClassVar[str] = "resolution"
    effect: ClassVar[Effect] = "lossy"

    input_size: int

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """Two steps down from the model's own size, in multiples of the stride."""
        described = context.config.description
        sizes = {
            round(described.input_size * s / described.stride) * described.stride for s in STEPS
        }
        return [cls(size) for size in sorted(sizes, reverse=True)]

    @property
    def label(self) -> str:
        """Name and size."""
        return f"resolution: {self.input_size}"

    def applies(self, context: PlanContext) -> str | None:
        """Smaller than now, and the model must take it."""
        config = context.config
        if self.input_size >= config.input_size:
            return "the input is not larger than that"
        if config.dynamic:
            return None
        if config.model.format != "onnx":
            return "the converted model's shape is fixed"
        from saccade.models.onnx_model import read_onnx
        from saccade.models.reshape import can_reshape

        return can_reshape(read_onnx(config.model.path), (self.input_size, self.input_size))

    def predict(self, context: PlanContext) -> Prediction:
        """Inference scales with the pixels."""
        ratio = (self.input_size / context.config.input_size) ** 2
        factors = {"infer": ratio, "preprocess": 0.5 + ratio / 2, "postprocess": 0.5 + ratio / 2}
        basis = f"pixels: {ratio:.2f} of now"
        return replace(by_stage(context, factors, basis, factors), odds=ODDS)

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Change the input size."""
        return replace(context.config, input_size=self.input_size)
