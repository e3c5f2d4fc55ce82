"""Choose the best class per pixel by a running maximum over the planes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from saccade.optimize.change import Effect, OneVariant, PlanContext, Prediction, by_stage
from saccade.pipeline.config import PipelineConfig

FACTOR, BEST_CASE = 0.25, 0.05


@dataclass(frozen=True)
class RunningArgmax(OneVariant):
    """The same class ids as NumPy's argmax over the first axis, vectorized; identical by test."""

    name: ClassVar[str] = "running_argmax"
    effect: ClassVar[Effect] = "exact"

    def applies(self, context: PlanContext) -> str | None:
        """Only where planes of scores come out of the model."""
        config = context.config
        if config.description.decode != "planes":
            return "the model gives no planes of scores per class"
        return "already in use" if config.argmax == "running" else None

    def predict(self, context: PlanContext) -> Prediction:
        """NumPy's argmax over the first axis is not vectorized."""
        return by_stage(context, {"postprocess": FACTOR}, "prior", {"postprocess": BEST_CASE})

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Change the postprocessing."""
        return replace(context.config, argmax="running")
