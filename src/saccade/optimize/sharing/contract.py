"""What a way of sharing is, and what it knows when it is asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

from saccade.optimize.change import Effect, PlanContext, Prediction
from saccade.optimize.sharing.cost import SystemCost
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.system import SystemConfig


@dataclass(frozen=True)
class SharingContext:
    """What is known when sharing is planned.

    Attributes:
        config: the system to improve.
        plans: of each pipeline as it was before anything was shared, with its own profile and
            calibration images.
        naive: both pipelines as most people write them: what is known of a model's own outputs is
            in there.
        cost: of the system to improve.
    """

    config: SystemConfig
    plans: tuple[PlanContext, PlanContext]
    naive: tuple[PipelineConfig, PipelineConfig]
    cost: SystemCost

    @property
    def tasks(self) -> tuple[str, str]:
        """Names of the tasks."""
        return self.config.tasks

    def gain(self, changed: SystemCost) -> float:
        """How many times better ``changed`` is than the system as it is."""
        if self.plans[0].objective == "latency":
            return self.cost.latency_ms / max(changed.latency_ms, 1e-9)
        return self.cost.frame_ms / max(changed.frame_ms, 1e-9)


class SharingChange(Protocol):
    """A way of sharing: a frozen dataclass, one file and one line in `saccade.plugins`.

    The same as `saccade.optimize.change.Optimization`, for a system of two pipelines.
    """

    name: ClassVar[str]

    @property
    def effect(self) -> Effect:
        """What it does to outputs."""
        ...

    @classmethod
    def variants(cls, context: SharingContext) -> Iterable[Self]:
        """The parameters worth trying here."""
        ...

    @property
    def label(self) -> str:
        """Name and parameters, for people; unique among the variants."""
        ...

    def applies(self, context: SharingContext) -> str | None:
        """None where it can be used here, else the reason why it cannot."""
        ...

    def predict(self, context: SharingContext) -> Prediction:
        """What it is expected to bring."""
        ...

    def cost(self, context: SharingContext) -> SystemCost:
        """The expected cost of the changed system, which later predictions start from."""
        ...

    def apply(self, context: SharingContext) -> SystemConfig:
        """The next system. May write new model files into the first plan's folder."""
        ...
