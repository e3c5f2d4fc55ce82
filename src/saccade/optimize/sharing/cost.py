"""What a frame costs in two pipelines, beside each other or joined. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from saccade.profile.cost_model import CostModel, StageCost

NOTHING = StageCost(0.0, 0.0)


@dataclass(frozen=True)
class SystemCost:
    """Stage costs of two pipelines.

    Attributes:
        parts: of each pipeline.
        joined: whether the stages of both run in the same threads, behind one reader.
    """

    parts: tuple[CostModel, CostModel]
    joined: bool = False

    def scaled(self, part: int, stage: str, factor: float) -> SystemCost:
        """The same system with one stage of one pipeline at ``factor`` times its cost."""
        parts = list(self.parts)
        parts[part] = parts[part].scaled(stage, factor)
        return replace(self, parts=(parts[0], parts[1]))

    @property
    def latency_ms(self) -> float:
        """Milliseconds from the start of a frame's decode until both results are there, at best."""
        return self.parts[0].latency_ms + self.parts[1].latency_ms

    @property
    def frame_ms(self) -> float:
        """Milliseconds between frames.

        Pipelines that overlap their stages side by side share the cores: the slowest thread of
        either, or all the work over all cores.
        """
        if not any(part.overlapped for part in self.parts):
            return self.latency_ms
        if self.joined:
            return self._together.frame_ms
        return max(self._together_work_ms, *(part.frame_ms for part in self.parts))

    @property
    def _together(self) -> CostModel:
        first, second = self.parts
        names = [*first.stages, *(name for name in second.stages if name not in first.stages)]
        stages = {
            name: StageCost(
                sum(part.stages.get(name, NOTHING).wall_ms for part in self.parts),
                sum(part.stages.get(name, NOTHING).cpu_ms for part in self.parts),
            )
            for name in names
        }
        return CostModel(stages, first.cores, True, max(first.streams, second.streams))

    @property
    def _together_work_ms(self) -> float:
        work = sum(cost.cpu_ms for part in self.parts for cost in part.stages.values())
        return work / self.parts[0].cores
