"""Processes (or threads) that prepare batches while the step computes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from saccade.train.change import Effect, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.load_prediction import predicted
from saccade.train.memory import is_missed, shrinking

_MOST = 16
# What a worker holds beside what it shares with the training (decision 0031).
_WORKER_MB = 30.0


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
        """Few, half the cores, all of them: where compute needs cores too, fewer can be more.

        None at all only for less memory.
        """
        cores, now = context.machine.cores, context.config.loader.workers
        counts = {1, 2, cores // 2, cores - 1, cores}
        found = [cls(count) for count in sorted(counts) if 0 < count <= _MOST and count != now]
        return [*found, cls(0)] if now and is_missed(context, "peak_rss_mb") else found

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
        saved = _WORKER_MB * (context.config.loader.workers - self.workers)
        found = predicted(context, basis, workers=self.workers)
        return replace(found, shrinks=shrinking(context, saved, "peak_rss_mb"))

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Set the number; the first workers stay for the next epoch.

        Where epochs are short, starting workers anew costs more than they bring, which a race of a
        few steps may not see.
        """
        now = context.config.loader
        kept = now.persistent or (now.workers == 0 and context.epochs > 1)
        kept = kept and self.workers > 0
        return context.config.with_loader(workers=self.workers, persistent=kept)
