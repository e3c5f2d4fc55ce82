"""Batches that each worker keeps ready, so that a slow sample does not stop the training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from saccade.train.change import Effect, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.load_prediction import LoadWork

# Of the memory that is free, for batches that wait.
_MEMORY_SHARE = 0.25
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Prefetch:
    """More batches ahead.

    Attributes:
        batches: of each worker.
    """

    name: ClassVar[str] = "prefetch"
    part: ClassVar[Part] = "data"

    batches: int = 4

    @property
    def effect(self) -> Effect:
        """The same samples in the same order."""
        return "exact"

    @classmethod
    def variants(cls, context: TrainingContext) -> Iterable[Self]:
        """Twice and four times PyTorch's own number."""
        return [cls(batches) for batches in (4, 8)]

    @property
    def label(self) -> str:
        """Name and number."""
        return f"{self.name} {self.batches}"

    def applies(self, context: TrainingContext) -> str | None:
        """Where there are workers, and room for what they keep."""
        settings = context.config.loader
        if settings.workers == 0:
            return "there are no workers that could be ahead"
        if settings.prefetch >= self.batches:
            return "already so many"
        waiting = _batch_mb(context) * settings.workers * self.batches
        room = context.machine.free_memory_mb * _MEMORY_SHARE
        return f"{waiting:.0f} MB of batches would wait in memory" if waiting > room else None

    def predict(self, context: TrainingContext) -> Prediction:
        """Evens out batches of unequal cost; helps no loader that is too slow on the whole."""
        work = LoadWork.of(context.profile, context.config.loader.workers)
        bound = max(1.0, context.profile.loading_bound)
        slow = work.total / max(1, context.config.loader.workers) > work.compute
        gain = 1.0 if slow else 1.0 + 0.5 * context.profile.data_share
        basis = "waits of a loader that is fast enough on the mean"
        return Prediction(min(gain, bound), bound, basis)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Set the number."""
        return context.config.with_loader(prefetch=self.batches)


def _batch_mb(context: TrainingContext) -> float:
    height, width = context.profile.facts.input_hw or (0, 0)
    return context.config.batch.size * height * width * 3 * _FLOAT_BYTES / 1e6
