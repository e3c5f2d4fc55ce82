"""Batch normalization, and the ReLU behind it, by kernels that read memory less often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from saccade.train.change import Effect, OneVariant, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.norms.building import is_built, why_not_built
from saccade.train.predicting import expected_gain, predicted

# To compile the kernels, once per machine.
COST_S = 5.0


@dataclass(frozen=True)
class FusedNorm(OneVariant):
    """``nn.BatchNorm2d`` in training on a CPU, in `saccade.train.norms`."""

    name: ClassVar[str] = "fused_norm"
    part: ClassVar[Part] = "compute"

    @property
    def effect(self) -> Effect:
        """Sums are taken in another order."""
        return "near_lossless"

    def applies(self, context: TrainingContext) -> str | None:
        """Where there is batch normalization on a CPU, and a compiler for the kernels."""
        config = context.config
        if config.compute.device.startswith("cuda"):
            return "its kernels are those of CPUs; cuDNN has fused ones for GPUs"
        if config.compute.norms == "fused":
            return "already fused"
        if context.profile.model.batch_norm is False:
            return "the model has no batch normalization"
        if config.scale.strategy == "fsdp":
            return "weights are cut in shares, and the kernels want them whole"
        return why_not_built()

    def predict(self, context: TrainingContext) -> Prediction:
        """By what it brought a U-Net beside the same settings."""
        gain = expected_gain(context, self.apply(context).compute)
        cost_s = 0.0 if is_built() else COST_S
        return predicted(context, gain, "normalization reads its input twice", cost_s=cost_s)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Turn it on."""
        return context.config.with_compute(norms="fused")
