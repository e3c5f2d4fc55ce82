"""Fewer and larger forward passes to a step, as large as memory allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from saccade.train.change import Effect, OneVariant, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.fitting_batch import TRY_S, known_fit, largest_fitting
from saccade.train.memory import activations_mb, shrinking
from saccade.train.predicting import gain_of, predicted

FASTER = 1.1


@dataclass(frozen=True)
class LargestBatch(OneVariant):
    """The largest batch that divides the effective one and fits, found by trying.

    What was found is kept in the run folder.
    """

    name: ClassVar[str] = "largest_batch"
    part: ClassVar[Part] = "batch"

    @property
    def effect(self) -> Effect:
        """Statistics of batch normalization are of more samples."""
        return "lossy"

    def applies(self, context: TrainingContext) -> str | None:
        """Where gradients are accumulated, and nobody has found that nothing larger fits."""
        if context.config.batch.accumulation == 1:
            return "a step is one forward pass already"
        known = known_fit(context)
        if all(known.says(size) is False for size in larger_sizes(context.config)):
            return "no larger batch fits"
        return None

    def predict(self, context: TrainingContext) -> Prediction:
        """What a pass takes beside its samples is taken less often."""
        known = known_fit(context)
        tries = [size for size in larger_sizes(context.config) if known.says(size) is None]
        gain = gain_of(context, FASTER)
        cost_s = TRY_S * len(tries)
        batch = context.config.batch
        shrinks = shrinking(context, (1 - batch.accumulation) * activations_mb(context))
        basis = "fewer forward passes to a step"
        return predicted(context, gain, basis, cost_s, odds=0.8, shrinks=shrinks)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Find it in worker processes, and take it; the same configuration where none fits.

        Raises:
            SaccadeError: a try failed for another reason than memory.
        """
        config = context.config
        found = largest_fitting(context, larger_sizes(config), lambda size: of_size(config, size))
        return of_size(config, found or config.batch.size)


def larger_sizes(config: TrainingConfig) -> list[int]:
    """Larger batches that the effective one consists of, rising."""
    whole = config.batch.effective
    return [n for n in range(config.batch.size + 1, whole + 1) if whole % n == 0]


def of_size(config: TrainingConfig, size: int) -> TrainingConfig:
    """The same effective batch in forward passes of ``size`` samples."""
    return config.with_batch(size=size, accumulation=config.batch.effective // size)
