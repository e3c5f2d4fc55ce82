"""Samples written into their place in the batch, in shared memory where there are workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from saccade.train.change import Effect, OneVariant, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.load_prediction import predicted, refusal, traits


@dataclass(frozen=True)
class VectorizedCollate(OneVariant):
    """One copy instead of stacking."""

    name: ClassVar[str] = "vectorized_collate"
    part: ClassVar[Part] = "data"

    @property
    def effect(self) -> Effect:
        """The same batch."""
        return "exact"

    def applies(self, context: TrainingContext) -> str | None:
        """Where the job does not make its batches itself."""
        settings = context.config.loader
        if settings.vectorized_collate or traits(context).collates_in_place:
            return "already on"
        return refusal(context, self.name)

    def predict(self, context: TrainingContext) -> Prediction:
        """Stacking takes a list, a check of shapes and a copy; this the copy alone."""
        return predicted(context, "a copy of each sample and nothing else", collate=0.7)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Turn it on."""
        return context.config.with_loader(vectorized_collate=True)
