"""Push the score threshold into decoding: cut it out of the graph, decode kept boxes only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from saccade.optimize.change import Effect, OneVariant, PlanContext, Prediction, by_stage
from saccade.pipeline.config import PipelineConfig

# Of inference, what decoding every cell takes: a few hundredths in the YOLO family.
INFER, INFER_BEST = 0.96, 0.85
POSTPROCESS, POSTPROCESS_BEST = 0.9, 0.3


@dataclass(frozen=True)
class DecodeKeptBoxes(OneVariant):
    """Sigmoids and boxes for the handful of cells that pass, instead of for thousands."""

    name: ClassVar[str] = "raw_head"
    effect: ClassVar[Effect] = "exact"

    @property
    def label(self) -> str:
        """Name."""
        return "raw_head: decode kept boxes only"

    def applies(self, context: PlanContext) -> str | None:
        """Needs a head whose last convolutions can be told apart."""
        from saccade.optimize.raw_decoding import why_not_raw

        return why_not_raw(context.config)

    def predict(self, context: PlanContext) -> Prediction:
        """The graph loses its last operators."""
        return by_stage(
            context,
            {"infer": INFER, "postprocess": POSTPROCESS},
            "prior",
            {"infer": INFER_BEST, "postprocess": POSTPROCESS_BEST},
        )

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Write the cut model, compared with the whole one, and decode its maps."""
        from saccade.optimize.raw_decoding import with_raw_decoding

        return with_raw_decoding(context.config, context.folder)
