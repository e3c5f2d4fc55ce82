"""Batches of bytes, converted and normalized as a whole on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from saccade.train.change import Effect, OneVariant, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.load_prediction import predicted, refusal, traits


@dataclass(frozen=True)
class NormalizeOnDevice(OneVariant):
    """A quarter of the bytes to collate, hand over and copy."""

    name: ClassVar[str] = "normalize_on_device"
    part: ClassVar[Part] = "data"

    @property
    def effect(self) -> Effect:
        """Rounding of fp32."""
        return "near_lossless"

    def applies(self, context: TrainingContext) -> str | None:
        """Where the transforms end in it."""
        settings = context.config.loader
        if settings.normalize == "device" or traits(context).normalizes_on_device:
            return "already on"
        return refusal(context, self.name)

    def predict(self, context: TrainingContext) -> Prediction:
        """Bytes instead of floats, and one pass over the batch instead of one per sample."""
        basis = "a quarter of the bytes, in one pass over the batch"
        made = predicted(context, basis, transform=0.8, collate=0.3, handover=0.3)
        copied = 1.0 / (1.0 - 0.75 * context.profile.block.share("copy"))
        return Prediction(made.gain * copied, made.bound * copied, basis)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Turn it on."""
        return context.config.with_loader(normalize="device")
