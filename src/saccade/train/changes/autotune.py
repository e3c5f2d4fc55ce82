"""cuDNN tries its algorithms on the first step and keeps the fastest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from saccade.train.change import Effect, OneVariant, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.predicting import expected_gain, predicted


@dataclass(frozen=True)
class Autotune(OneVariant):
    """``torch.backends.cudnn.benchmark``. Not verified on hardware."""

    name: ClassVar[str] = "autotune"
    part: ClassVar[Part] = "compute"

    @property
    def effect(self) -> Effect:
        """Another algorithm takes sums in another order."""
        return "near_lossless"

    def applies(self, context: TrainingContext) -> str | None:
        """On NVIDIA GPUs, where nobody asks for the same bits every time."""
        settings = context.config.compute
        if settings.autotune:
            return "already on"
        if not settings.device.startswith("cuda"):
            return "it is cuDNN's, which runs on NVIDIA GPUs"
        if context.config.deterministic:
            return "the algorithm would differ from run to run, and the training is deterministic"
        return None

    def predict(self, context: TrainingContext) -> Prediction:
        """A little for convolutions of unusual shapes."""
        gain = expected_gain(context, self.apply(context).compute)
        return predicted(context, gain, "the fastest convolution algorithm is kept", cost_s=2.0)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Turn it on."""
        return context.config.with_compute(autotune=True)
