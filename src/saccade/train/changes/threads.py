"""Fewer threads for operators, where loader workers want the same cores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from saccade.train.change import Effect, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.predicting import gain_of, predicted

FASTER = 1.03


@dataclass(frozen=True)
class Threads:
    """Cores left to the loader's workers."""

    count: int
    name: ClassVar[str] = "threads"
    part: ClassVar[Part] = "compute"

    @property
    def effect(self) -> Effect:
        """Sums are divided differently."""
        return "near_lossless"

    @classmethod
    def variants(cls, context: TrainingContext) -> Iterable[Self]:
        """As many as workers leave free, and half of the cores."""
        cores = context.machine.cores
        wanted = {cores - context.config.loader.workers, cores // 2}
        return [cls(count) for count in sorted(wanted) if 1 <= count < cores]

    @property
    def label(self) -> str:
        """Name and number."""
        return f"{self.name} {self.count}"

    def applies(self, context: TrainingContext) -> str | None:
        """On a CPU whose cores are wanted twice."""
        settings = context.config.compute
        if settings.device.startswith("cuda"):
            return "the GPU computes"
        if settings.threads == self.count:
            return "already so many"
        if not context.config.loader.workers:
            return "no worker of the loader wants the cores"
        return None

    def predict(self, context: TrainingContext) -> Prediction:
        """Little: it only avoids that threads wait for one another."""
        return predicted(context, gain_of(context, FASTER), "threads and workers share no core")

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Set the number."""
        return context.config.with_compute(threads=self.count)
