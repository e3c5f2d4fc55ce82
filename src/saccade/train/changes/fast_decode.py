"""Image files decoded by OpenCV instead of Pillow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from saccade.train.change import Effect, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.load_prediction import predicted, refusal

# Share of Pillow's time, tried on 1080p JPEGs (0.2), JPEGs of COCO (0.85) and 360p PNGs (0.8).
_LARGE_MB, _LARGE_JPEG, _OTHER = 2.0, 0.3, 0.85


@dataclass(frozen=True)
class FastDecode:
    """The same pixels, sooner."""

    name: ClassVar[str] = "fast_decode"
    part: ClassVar[Part] = "data"

    @property
    def effect(self) -> Effect:
        """Equal bits where both are built on the same libjpeg, rounding otherwise."""
        return "near_lossless"

    @classmethod
    def variants(cls, context: TrainingContext) -> Iterable[Self]:
        """One."""
        return [cls()]

    @property
    def label(self) -> str:
        """Name."""
        return self.name

    def applies(self, context: TrainingContext) -> str | None:
        """Where saccade decodes, and by Pillow."""
        settings = context.config.loader
        if settings.decoder == "opencv" or settings.backend != "torch":
            return "already on"
        return refusal(context, self.name)

    def predict(self, context: TrainingContext) -> Prediction:
        """By what was tried of either library."""
        facts = context.profile.facts
        large = facts.jpeg > 0.5 and facts.decoded_mb > _LARGE_MB
        factor = _LARGE_JPEG if large else _OTHER
        basis = f"OpenCV takes {factor:.0%} of Pillow's time on such files"
        return predicted(context, basis, decode=factor)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Turn it on."""
        return context.config.with_loader(decoder="opencv")
