"""Put conversion, normalization and layout into the model's graph; feed uint8 pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from saccade.optimize.change import Effect, OneVariant, PlanContext, Prediction, by_stage
from saccade.pipeline.config import PipelineConfig

# Of a preprocessing stage that does everything in NumPy, scaling is what remains outside.
REMAINING = {"numpy": 0.35, "fused": 0.5}


@dataclass(frozen=True)
class PreprocessInGraph(OneVariant):
    """Only scaling stays outside; the graph does the rest on a quarter of the bytes."""

    name: ClassVar[str] = "graph_preprocess"
    effect: ClassVar[Effect] = "exact"

    @property
    def label(self) -> str:
        """Name."""
        return "graph_preprocess: uint8 input"

    def applies(self, context: PlanContext) -> str | None:
        """Needs a float image input in NCHW; a preprocessing of the user's own stays."""
        config = context.config
        if config.preprocessor not in REMAINING:
            return (
                "already in use" if config.preprocessor == "graph" else "the preprocessing is yours"
            )
        if config.description.input.layout != "NCHW":
            return f"the model's input is {config.description.input.layout}"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """What is left is scaling."""
        left = REMAINING[context.config.preprocessor]
        return by_stage(
            context, {"preprocess": left, "infer": 1.01}, "prior by step", {"preprocess": 0.1}
        )

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Use the preprocessor that only scales."""
        return replace(context.config, preprocessor="graph")
