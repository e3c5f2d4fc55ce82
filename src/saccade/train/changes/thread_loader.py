"""Threads that decode and augment by plan, each sample straight into its place in the batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from saccade.train.change import Effect, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.load_prediction import opencv_share, predicted, refusal

# Share of what torchvision's transforms take on whole images: 0.1 of crops of 1080p, 0.7 of crops
# with changes of colour of 360p, tried with the plan.
_TRANSFORM = 0.4


@dataclass(frozen=True)
class LoadByThreads:
    """The loader ``threads``.

    Attributes:
        threads: how many.
    """

    name: ClassVar[str] = "thread_loader"
    part: ClassVar[Part] = "data"

    threads: int = 2

    @property
    def effect(self) -> Effect:
        """The same augmentation; single pixels may round another way."""
        return "near_lossless"

    @classmethod
    def variants(cls, context: TrainingContext) -> Iterable[Self]:
        """As many as cores, and one less."""
        cores = context.machine.cores
        return [cls(count) for count in sorted({max(1, cores - 1), cores})]

    @property
    def label(self) -> str:
        """Name and number."""
        return f"{self.name} {self.threads}"

    def applies(self, context: TrainingContext) -> str | None:
        """Where the transforms can be planned."""
        settings = context.config.loader
        if settings.backend == "threads":
            return "already on"
        if settings.resized:
            return "samples are kept resized, which plans know nothing of"
        return refusal(context, self.name)

    def predict(self, context: TrainingContext) -> Prediction:
        """Faster decoding and resizing, no batch collated or handed over."""
        basis = "planned augmentation in threads, nothing collated or handed over"
        return predicted(
            context,
            basis,
            workers=self.threads,
            decode=opencv_share(context),
            transform=_TRANSFORM,
            collate=0.0,
            handover=0.0,
        )

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Choose this loader."""
        return context.config.with_loader(backend="threads", workers=self.threads)
