"""Workers that outlive the epoch, instead of being started again for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from saccade.train.change import Effect, OneVariant, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.load_prediction import LoadWork, traits

# A forked worker is there and has its first batch's files open after about so long.
_START_S = 0.1


@dataclass(frozen=True)
class PersistentWorkers(OneVariant):
    """Keep the workers."""

    name: ClassVar[str] = "persistent"
    part: ClassVar[Part] = "data"

    @property
    def effect(self) -> Effect:
        """The same samples in the same order."""
        return "exact"

    def applies(self, context: TrainingContext) -> str | None:
        """Where there are workers and epochs."""
        settings = context.config.loader
        if settings.persistent:
            return "already on"
        if traits(context).keeps_workers:
            return f"the loader '{settings.backend}' keeps its workers anyway"
        if settings.workers == 0:
            return "there are no workers that could be kept"
        return "there is only one epoch" if context.epochs < 2 else None

    def predict(self, context: TrainingContext) -> Prediction:
        """The start of workers and of their first batch, once an epoch."""
        facts, block = context.profile.facts, context.profile.block
        work = LoadWork.of(context.profile, context.config.loader.workers)
        start_s = _START_S + work.total * context.config.batch.size
        epoch_s = max(facts.samples * block.wall_s / max(1, block.samples), 1e-9)
        bound = 1.0 + start_s / epoch_s
        basis = f"workers start in about {start_s:.2f} s, an epoch lasts {epoch_s:.1f} s"
        return Prediction(bound, bound, basis)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Turn it on."""
        return context.config.with_loader(persistent=True)
