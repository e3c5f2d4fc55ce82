"""Decode, infer and postprocess at the same time, with several requests in flight."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from saccade.optimize.change import Effect, OneVariant, PlanContext, Prediction
from saccade.pipeline.config import PipelineConfig
from saccade.profile.cost_model import CostModel, StageCost

# One thread per stream wastes nothing at barriers, and so does a decoder with one thread; the
# same work on several threads costs this much more CPU on small models.
SINGLE_THREAD_CPU = 0.8
# Overlap never reaches the ideal: threads wait for one another and share caches.
EFFICIENCY = 0.97
# One request runs and two wait: results are collected in order, and a core whose next request is
# still being decoded would idle.
REQUESTS_PER_CORE = 3


@dataclass(frozen=True)
class OverlapStages(OneVariant):
    """One stream per core, one single-threaded decoder beside them, bounded queues."""

    name: ClassVar[str] = "overlap_stages"
    effect: ClassVar[Effect] = "exact"

    def applies(self, context: PlanContext) -> str | None:
        """For throughput; a single frame's latency only gets longer."""
        if context.config.execution == "overlapped":
            return "already in use"
        if context.objective == "latency":
            return "frames in flight lengthen the latency that is the goal"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """The cost model: all CPU work over all cores, or the slowest thread."""
        now = context.cost
        stages = {
            name: StageCost(
                cost.wall_ms,
                cost.cpu_ms * (SINGLE_THREAD_CPU if name in ("infer", "decode") else 1.0),
            )
            for name, cost in now.stages.items()
        }
        then = CostModel(stages, now.cores, overlapped=True, streams=context.cores)
        ideal = then.speedup_over(now)
        gain = max(1.0, ideal * EFFICIENCY)
        bound = max(gain, ideal / EFFICIENCY)
        return Prediction(gain, bound, "cost model: CPU work over all cores")

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Overlap, with as many streams as cores."""
        config = context.config
        options = replace(
            config.options,
            threads=context.cores,
            streams=context.cores,
            in_flight=REQUESTS_PER_CORE * context.cores,
            spinning=False,
        )
        return replace(
            config, execution="overlapped", options=options, decode_threads=1, queue_depth=2
        )
