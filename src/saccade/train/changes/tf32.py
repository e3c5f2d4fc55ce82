"""fp32 products with a shorter mantissa, on GPUs that have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from saccade.train.change import Effect, OneVariant, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.predicting import expected_gain, predicted

AMPERE = (8, 0)


@dataclass(frozen=True)
class Tf32(OneVariant):
    """TF32 for matrix products too; convolutions have it by PyTorch's default.

    Not verified on hardware.
    """

    name: ClassVar[str] = "tf32"
    part: ClassVar[Part] = "compute"

    @property
    def effect(self) -> Effect:
        """Inputs of products are rounded to 10 bits of mantissa."""
        return "near_lossless"

    def applies(self, context: TrainingContext) -> str | None:
        """On GPUs from Ampere on, where products are in fp32."""
        settings = context.config.compute
        if settings.tf32:
            return "already on"
        if not settings.device.startswith("cuda"):
            return "only GPUs have TF32"
        if context.machine.compute_capability < AMPERE:
            return "the GPU is older than Ampere and has no TF32"
        if settings.precision != "fp32":
            return f"products are in {settings.precision} already"
        return None

    def predict(self, context: TrainingContext) -> Prediction:
        """A part of what 16 bits bring."""
        gain = expected_gain(context, self.apply(context).compute)
        return predicted(context, gain, "fp32 products run on tensor cores")

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Turn it on."""
        return context.config.with_compute(tf32=True)
