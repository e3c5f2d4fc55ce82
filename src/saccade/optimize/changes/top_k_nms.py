"""Suppress among the best candidates only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from saccade.models.families import FINAL_DECODES
from saccade.optimize.change import Effect, OneVariant, PlanContext, Prediction, by_stage
from saccade.optimize.changes.vectorized_nms import BEST_CASE as VECTORIZED_BEST
from saccade.optimize.changes.vectorized_nms import FACTOR as VECTORIZED
from saccade.pipeline.config import PipelineConfig
from saccade.tasks.nms import SUPPRESSED_DECODES

# Beside the vectorized way, where thousands of candidates pass a low threshold.
FACTOR, BEST_CASE = 0.6, 0.2
# Above this score, frames have tens of candidates, fewer than there is any use in choosing from.
FEW_CANDIDATES = 0.1


@dataclass(frozen=True)
class TopKNms(OneVariant):
    """The best candidates first, and more of them only while too few boxes are kept.

    A box is suppressed by better ones only, so this finds exactly what all candidates would give.
    """

    name: ClassVar[str] = "top_k_nms"
    effect: ClassVar[Effect] = "exact"

    def applies(self, context: PlanContext) -> str | None:
        """Where the threshold lets many candidates pass, and NMS is outside of the graph."""
        config = context.config
        if config.description.decode not in SUPPRESSED_DECODES:
            return f"a {config.description.decode} model's boxes are not suppressed"
        if config.nms == "top_k":
            return "already in use"
        if config.nms == "graph":
            return "NMS is a part of the graph"
        if config.description.decode in FINAL_DECODES:
            return f"the boxes of a {config.description.decode} model need no suppression"
        if config.score_threshold > FEW_CANDIDATES:
            return f"few candidates have a score above {config.score_threshold:g}"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """Fewer pairs of boxes to compare."""
        if context.config.nms == "vectorized":
            factor, best = FACTOR, BEST_CASE
        else:
            factor, best = FACTOR * VECTORIZED, BEST_CASE * VECTORIZED_BEST
        return by_stage(context, {"postprocess": factor}, "prior", {"postprocess": best})

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Change the postprocessing."""
        return replace(context.config, nms="top_k")
