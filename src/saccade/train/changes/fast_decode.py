"""Image files decoded by OpenCV instead of Pillow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from saccade.train.change import Effect, OneVariant, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.load_prediction import opencv_share, predicted, refusal, traits


@dataclass(frozen=True)
class FastDecode(OneVariant):
    """The same pixels, sooner."""

    name: ClassVar[str] = "fast_decode"
    part: ClassVar[Part] = "data"

    @property
    def effect(self) -> Effect:
        """Equal bits where both are built on the same libjpeg, rounding otherwise."""
        return "near_lossless"

    def applies(self, context: TrainingContext) -> str | None:
        """Where saccade decodes, and by Pillow."""
        settings = context.config.loader
        if settings.decoder == "opencv" or traits(context).decodes != "as_set":
            return "already on"
        return refusal(context, self.name)

    def predict(self, context: TrainingContext) -> Prediction:
        """By what was tried of either library."""
        factor = opencv_share(context)
        basis = f"OpenCV takes {factor:.0%} of Pillow's time on such files"
        return predicted(context, basis, decode=factor)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Turn it on."""
        return context.config.with_loader(decoder="opencv")
