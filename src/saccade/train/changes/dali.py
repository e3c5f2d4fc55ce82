"""NVIDIA DALI decodes and augments, on the CPU or, where there is one, partly on the GPU."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from saccade.train.change import Effect, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.load_prediction import opencv_share, predicted, refusal
from saccade.train.loaders.dali import DaliLoader

# Share of what torchvision's transforms take on whole images: 0.1 of crops of 1080p, 0.7 of crops
# with changes of colour of 360p, tried with the plan.
_TRANSFORM = 0.4


@dataclass(frozen=True)
class LoadByDali:
    """The loader ``dali``.

    Attributes:
        threads: of its CPU operators.
    """

    name: ClassVar[str] = "dali"
    part: ClassVar[Part] = "data"

    threads: int = 2

    @property
    def effect(self) -> Effect:
        """The same augmentation, resized and coloured by other kernels."""
        return "lossy"

    @classmethod
    def variants(cls, context: TrainingContext) -> Iterable[Self]:
        """As many threads as cores."""
        return [cls(max(1, context.machine.cores))]

    @property
    def label(self) -> str:
        """Name and threads."""
        return f"{self.name} {self.threads}"

    def applies(self, context: TrainingContext) -> str | None:
        """Where DALI is installed and can express the transforms."""
        if context.config.loader.backend == "dali":
            return "already on"
        if context.config.loader.cache != "none":
            return "DALI decodes files, and samples come from a cache here"
        return DaliLoader.available() or refusal(context, self.name)

    def predict(self, context: TrainingContext) -> Prediction:
        """Native decoding and resizing in DALI's own threads."""
        return predicted(
            context,
            "DALI's threads decode the crop alone",
            workers=self.threads,
            decode=opencv_share(context),
            transform=_TRANSFORM,
            collate=0.0,
            handover=0.0,
            odds=0.85,
        )

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Choose this loader."""
        return context.config.with_loader(backend="dali", workers=self.threads)
