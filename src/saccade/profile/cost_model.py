"""Predicts frame time from stage costs, for sequential and for overlapped execution. Pure.

Both the upper bound of a finding ("without this stage") and the prediction of an
optimization ("this stage at half the cost") are questions to this one model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from saccade.profile.records import Profile

# Stages that one thread of the overlapped engine runs one after the other; inference and
# postprocessing each have their own.
THREADS = (("decode", "preprocess"), ("infer",), ("postprocess",))


@dataclass(frozen=True)
class StageCost:
    """Wall and CPU milliseconds per frame of one stage, run alone."""

    wall_ms: float
    cpu_ms: float

    def scaled(self, factor: float) -> StageCost:
        """The same stage at ``factor`` times its cost."""
        return StageCost(self.wall_ms * factor, self.cpu_ms * factor)


@dataclass(frozen=True)
class CostModel:
    """Stage costs and how they are executed.

    Attributes:
        stages: stage name → cost.
        cores: usable cores.
        overlapped: whether stages run at the same time.
        streams: inferences at the same time, in overlapped execution.
    """

    stages: Mapping[str, StageCost]
    cores: int
    overlapped: bool
    streams: int = 1

    @classmethod
    def of(cls, profile: Profile, streams: int = 1) -> CostModel:
        """The cost model of a profiled configuration."""
        costs = {s.name: StageCost(s.wall_ms, s.cpu_ms) for s in profile.stages}
        return cls(costs, profile.cores, profile.execution == "overlapped", streams)

    def with_stage(self, name: str, cost: StageCost) -> CostModel:
        """The same system with one stage's cost replaced."""
        return replace(self, stages={**self.stages, name: cost})

    def scaled(self, name: str, factor: float) -> CostModel:
        """The same system with one stage at ``factor`` times its cost."""
        return self.with_stage(name, self.stages[name].scaled(factor))

    @property
    def frame_ms(self) -> float:
        """Milliseconds between frames.

        Sequential: the sum of the stages. Overlapped: the slowest thread, or all the CPU
        work spread over all cores, whichever is longer.
        """
        if not self.overlapped:
            return sum(cost.wall_ms for cost in self.stages.values())
        per_thread = [self._thread_ms(group) for group in THREADS]
        work = sum(cost.cpu_ms for cost in self.stages.values()) / self.cores
        return max(work, *per_thread)

    @property
    def latency_ms(self) -> float:
        """Milliseconds from the start of a frame's decode to its result, at best."""
        return sum(cost.wall_ms for cost in self.stages.values())

    def _thread_ms(self, group: tuple[str, ...]) -> float:
        wall = sum(self.stages[name].wall_ms for name in group if name in self.stages)
        # More requests in flight cannot make inference exceed what the cores deliver, but they
        # hide the part of it during which cores wait for one another.
        if group == ("infer",) and self.streams > 1 and "infer" in self.stages:
            return self.stages["infer"].cpu_ms / self.cores
        return wall

    def speedup_over(self, other: CostModel) -> float:
        """How many times the frames per second of ``other``."""
        return other.frame_ms / self.frame_ms if self.frame_ms > 0 else float("inf")
