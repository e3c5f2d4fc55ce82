"""Channels of a pixel side by side, the layout that convolution kernels want."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from saccade.train.change import Effect, OneVariant, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.predicting import expected_gain, predicted


@dataclass(frozen=True)
class ChannelsLast(OneVariant):
    """Weights and images in ``torch.channels_last``."""

    name: ClassVar[str] = "channels_last"
    part: ClassVar[Part] = "compute"

    @property
    def effect(self) -> Effect:
        """Sums are taken in another order."""
        return "near_lossless"

    def applies(self, context: TrainingContext) -> str | None:
        """Where it is not on yet."""
        return "already on" if context.config.compute.channels_last else None

    def predict(self, context: TrainingContext) -> Prediction:
        """Little in fp32, several times as much under reduced precision."""
        convolutional = context.profile.model.dense_convolutions != 0
        gain = expected_gain(context, self.apply(context).compute, convolutional)
        return predicted(context, gain, "convolutions read pixels without reordering them")

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Turn it on."""
        return context.config.with_compute(channels_last=True)
