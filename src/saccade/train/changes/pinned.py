"""Batches in page-locked memory, copied to the GPU while it computes the one before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from saccade.train.change import Effect, OneVariant, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig


@dataclass(frozen=True)
class PinnedMemory(OneVariant):
    """Pin batches, and feed the GPU by a stream of its own."""

    name: ClassVar[str] = "pinned"
    part: ClassVar[Part] = "data"

    @property
    def effect(self) -> Effect:
        """Only where bytes stand."""
        return "exact"

    def applies(self, context: TrainingContext) -> str | None:
        """Where there is a GPU to copy to."""
        if not context.config.compute.device.startswith("cuda"):
            return "batches are not copied to a GPU"
        return "already on" if context.config.loader.pinned else None

    def predict(self, context: TrainingContext) -> Prediction:
        """All of the copy is hidden behind compute."""
        bound = 1.0 / max(1.0 - context.profile.block.share("copy"), 1e-9)
        return Prediction(bound, bound, "the next batch is copied while this one computes")

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Turn it on."""
        return context.config.with_loader(pinned=True)
