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
        work = sum(cost.cpu_ms for part in self.parts for cost in part.stages.values())
        work_ms = work / self.parts[0].cores
        if not self.joined:
            return max(work_ms, *(part.frame_ms for part in self.parts))
        # One thread feeds both and one collects both; each model has requests of its own.
        feeding = self._wall_ms("decode") + self._wall_ms("preprocess")
        inferring = (_infer_ms(part) for part in self.parts)
        return max(work_ms, feeding, *inferring, self._wall_ms("postprocess"))

    def _wall_ms(self, stage: str) -> float:
        return sum(part.stages.get(stage, NOTHING).wall_ms for part in self.parts)


def _infer_ms(part: CostModel) -> float:
    """Between two inferences of one model; several requests hide the waits within one."""
    cost = part.stages.get("infer", NOTHING)
    return cost.cpu_ms / part.cores if part.streams > 1 else cost.wall_ms
