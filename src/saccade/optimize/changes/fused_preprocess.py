"""Preprocess in one pass into buffers that are kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from saccade.optimize.change import Effect, OneVariant, PlanContext, Prediction, by_stage
from saccade.pipeline.config import PipelineConfig

FACTOR, BEST_CASE = 0.6, 0.25


@dataclass(frozen=True)
class FusedPreprocess(OneVariant):
    """Scale straight into the letterbox, then normalize each channel in one pass."""

    name: ClassVar[str] = "fused_preprocess"
    effect: ClassVar[Effect] = "exact"

    def applies(self, context: PlanContext) -> str | None:
        """Instead of the step-by-step preprocessing only."""
        if context.config.preprocessor == "numpy":
            return None
        return f"the preprocessing is '{context.config.preprocessor}' already"

    def predict(self, context: PlanContext) -> Prediction:
        """Fewer passes over memory."""
        return by_stage(context, {"preprocess": FACTOR}, "prior", {"preprocess": BEST_CASE})

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Use the fused preprocessor."""
        return replace(context.config, preprocessor="fused")
