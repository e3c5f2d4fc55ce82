"""JPEGs decoded at 1/2, 1/4 or 1/8, where the transforms make them that small anyway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from saccade.train.change import Effect, OneVariant, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.load_prediction import opencv_share, predicted, refusal, traits

# Share of OpenCV's time for a whole 1080p JPEG; what is left is mostly entropy decoding.
_DECODE = {0.5: 0.7, 0.25: 0.62, 0.125: 0.55, 1.0: 0.8}


@dataclass(frozen=True)
class ScaledDecode(OneVariant):
    """Leave out what the transforms would throw away (the DCT scaling of libjpeg).

    Crops, flips and colours stay those of the same ticket; pixels are mixed in another way.
    """

    name: ClassVar[str] = "scaled_decode"
    part: ClassVar[Part] = "data"

    @property
    def effect(self) -> Effect:
        """Other pixels: judged on the loss curves."""
        return "lossy"

    def applies(self, context: TrainingContext) -> str | None:
        """Where images are JPEGs larger than needed."""
        settings, facts = context.config.loader, context.profile.facts
        if settings.decode == "scaled":
            return "already on"
        if settings.resized:
            return "samples are kept resized, and decoded once"
        if facts.jpeg == 0:
            return "no image is a JPEG"
        if traits(context).decodes == "crop":
            return f"the loader '{settings.backend}' decodes the part that it needs"
        if traits(context).decodes == "by_crop" and settings.cache == "none":
            return None  # the size is chosen for each crop, not for the smallest there may be
        if reason := refusal(context, self.name):
            return reason
        return "the smallest crop needs the whole image" if facts.scalable >= 1.0 else None

    def predict(self, context: TrainingContext) -> Prediction:
        """Less to transform to pixels and to resize."""
        fraction = context.profile.facts.scalable
        decode = _DECODE.get(fraction, 1.0) * opencv_share(context)
        basis = f"images decoded at {fraction:g}" if fraction < 1 else "size chosen by the crop"
        return predicted(context, basis, decode=decode, transform=0.5, odds=0.85)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Turn it on."""
        return context.config.with_loader(decode="scaled", decoder="opencv")
