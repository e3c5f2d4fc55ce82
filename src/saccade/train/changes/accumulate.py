"""A step of several small batches instead of one large batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from saccade.train.change import Effect, Part, Prediction, TrainingContext
from saccade.train.compiling import WITHOUT_GRAPHS
from saccade.train.config import TrainingConfig
from saccade.train.memory import activations_mb, is_missed, is_short, own_metric, shrinking
from saccade.train.predicting import predicted

# Each pass has a part of its time that does not depend on its samples.
SLOWER = 0.97


@dataclass(frozen=True)
class Accumulate:
    """Forward passes of ``size`` samples, as many as make up the effective batch.

    Batch normalization then looks at fewer samples at once, and a loss that averages over valid
    pixels weighs them by batch, so that this is for the metric to judge.
    """

    size: int
    name: ClassVar[str] = "accumulate"
    part: ClassVar[Part] = "batch"

    @property
    def effect(self) -> Effect:
        """Statistics of batch normalization are of fewer samples."""
        return "lossy"

    @classmethod
    def variants(cls, context: TrainingContext) -> Iterable[Self]:
        """Halves and quarters that divide the batch; where a goal asks for less, down to one."""
        size, most = context.config.batch.size, 4
        if is_missed(context, own_metric(context)):
            most = size
        parts = [2**n for n in range(1, most.bit_length()) if 2**n <= most]
        return [cls(size // count) for count in parts if size % count == 0]

    @property
    def label(self) -> str:
        """Name and size."""
        return f"{self.name} batches of {self.size}"

    def applies(self, context: TrainingContext) -> str | None:
        """Where memory is short, or a CPU's cache may hold what a smaller batch needs."""
        config = context.config
        if config.batch.size <= self.size or config.batch.size % self.size:
            return f"batches of {config.batch.size} cannot be divided into batches of {self.size}"
        if config.compute.compile in WITHOUT_GRAPHS:
            return "a CUDA graph writes over gradients that are still being added up"
        if config.compute.device.startswith("cuda") and not is_short(context):
            return "memory is not short, and a GPU does less at once with a smaller batch"
        return None

    def predict(self, context: TrainingContext) -> Prediction:
        """Time for each pass beside its samples, and less memory."""
        saved = (1 - self.size / context.config.batch.size) * activations_mb(context)
        basis = (
            f"smaller batches, in less memory; batch normalization, where there is any, sees "
            f"{self.size} at once"
        )
        return predicted(context, SLOWER, basis, odds=0.6, shrinks=shrinking(context, saved))

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Divide the batch."""
        batch = context.config.batch
        passes = batch.size // self.size * batch.accumulation
        return context.config.with_batch(size=self.size, accumulation=passes)
