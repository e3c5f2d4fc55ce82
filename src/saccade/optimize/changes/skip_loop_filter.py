"""Leave out the decoder's deblocking filter."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from saccade.optimize.change import Effect, OneVariant, PlanContext, Prediction, by_stage
from saccade.pipeline.config import PipelineConfig

FACTOR, BEST_CASE = 0.85, 0.7


@dataclass(frozen=True)
class SkipLoopFilter(OneVariant):
    """H.264 without in-loop deblocking: cheaper, and errors drift until the next key frame."""

    name: ClassVar[str] = "skip_loop_filter"
    effect: ClassVar[Effect] = "lossy"

    def applies(self, context: PlanContext) -> str | None:
        """Labelled still images cannot show what it costs, so a labelled guard refuses it."""
        config = context.config
        if not context.video or config.reader != "pyav":
            return "needs a video read by PyAV"
        if config.skip_loop_filter:
            return "already in use"
        if context.labelled:
            return "its accuracy cost shows only on labelled video, and the labels are on images"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """Deblocking is a sixth of decoding."""
        return by_stage(context, {"decode": FACTOR}, "prior", {"decode": BEST_CASE})

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Tell the decoder."""
        return replace(context.config, skip_loop_filter=True)
