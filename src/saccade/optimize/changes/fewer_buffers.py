"""Hold fewer things at the same time: one inference, one decoded frame waiting."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from saccade.optimize.change import Effect, OneVariant, PlanContext, Prediction
from saccade.pipeline.config import PipelineConfig

# Priors, from YOLOX-nano in OpenVINO: 296 MB with two streams, 277 MB with one.
SHRINKS, SLOWER = 0.94, 0.9


@dataclass(frozen=True)
class FewerBuffers(OneVariant):
    """One stream, as few requests and queued frames as overlapping needs, one decoder thread."""

    name: ClassVar[str] = "fewer_buffers"
    effect: ClassVar[Effect] = "exact"

    def applies(self, context: PlanContext) -> str | None:
        """Where peak memory is too high and stages overlap."""
        config = context.config
        if "peak_rss_mb" not in context.missed:
            return "it saves memory, not time, and no goal asks for that"
        if config.execution != "overlapped":
            return "one frame at a time is under way already"
        if self.apply(context) == config:
            return "already in use"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """By priors."""
        basis = "prior: every stream has buffers of its own"
        return Prediction(SLOWER, 1.0, basis, shrinks={"peak_rss_mb": SHRINKS})

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Set the knobs to their least; threads stay, so one inference uses all of them."""
        config = context.config
        options = replace(config.options, streams=1, in_flight=2, hint="none")
        threads = 1 if config.reader == "pyav" else config.decode_threads
        return replace(config, options=options, queue_depth=1, decode_threads=threads)
