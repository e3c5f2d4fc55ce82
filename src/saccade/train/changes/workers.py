"""Processes (or threads) that prepare batches while the step computes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from saccade.train.change import Effect, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.load_prediction import predicted

_MOST = 16


@dataclass(frozen=True)
class LoaderWorkers:
    """A number of loader workers.

    Attributes:
        workers: how many.
    """

    name: ClassVar[str] = "workers"
    part: ClassVar[Part] = "data"

    workers: int = 2

    @property
    def effect(self) -> Effect:
        """The same samples in the same order."""
        return "exact"

    @classmethod
    def variants(cls, context: TrainingContext) -> Iterable[Self]:
        """Few, half the cores, all of them: where compute needs cores too, fewer can be more."""
        cores = context.machine.cores
        counts = {1, 2, cores // 2, cores - 1, cores}
        now = context.config.loader.workers
        return [cls(count) for count in sorted(counts) if 0 < count <= _MOST and count != now]

    @property
    def label(self) -> str:
        """Name and number."""
        return f"{self.name} {self.workers}"

    def applies(self, context: TrainingContext) -> str | None:
        """Where the number differs."""
        return "already so many" if context.config.loader.workers == self.workers else None

    def predict(self, context: TrainingContext) -> Prediction:
        """Loading beside compute instead of between."""
        basis = "loader rate and compute rate measured apart, with the cores they share"
        return predicted(context, basis, workers=self.workers)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Set the number; the first workers stay for the next epoch.

        Where epochs are short, starting workers anew costs more than they bring, which a race of a
        few steps may not see.
        """
        now = context.config.loader
        kept = now.persistent or (now.workers == 0 and context.epochs > 1)
        return context.config.with_loader(workers=self.workers, persistent=kept)
