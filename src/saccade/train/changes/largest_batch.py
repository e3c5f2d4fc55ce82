"""Fewer and larger forward passes to a step, as large as memory allows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from saccade.train import batch_probe
from saccade.train.change import Effect, OneVariant, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.memory import SHORT
from saccade.train.predicting import gain_of, predicted

FASTER = 1.1
# A worker that imports PyTorch and takes two steps.
TRY_S = 8.0


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
        if _found(context) == context.config.batch.size:
            return "no larger batch fits"
        return None

    def predict(self, context: TrainingContext) -> Prediction:
        """What a pass takes beside its samples is taken less often."""
        tries = len(larger_sizes(context.config))
        cost_s = 0.0 if _found(context) else TRY_S * tries
        gain = gain_of(context, FASTER)
        return predicted(context, gain, "fewer forward passes to a step", cost_s, odds=0.8)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Find it in worker processes, and take it; the same configuration where none fits.

        Raises:
            SaccadeError: a try failed for another reason than memory.
        """
        size = _found(context)
        if size is None:
            size = _find(context)
        return of_size(context.config, size)


def larger_sizes(config: TrainingConfig) -> list[int]:
    """Larger batches that the effective one consists of, rising."""
    whole = config.batch.effective
    return [n for n in range(config.batch.size + 1, whole + 1) if whole % n == 0]


def of_size(config: TrainingConfig, size: int) -> TrainingConfig:
    """The same effective batch in forward passes of ``size`` samples."""
    return config.with_batch(size=size, accumulation=config.batch.effective // size)


def _place(context: TrainingContext) -> Path:
    """The file for what was found; of the effective batch, however it is divided now."""
    whole = context.config.with_batch(size=1, accumulation=context.config.batch.effective)
    return context.folder / f"largest-batch-{whole.hash[:16]}.json"


def _found(context: TrainingContext) -> int | None:
    place = _place(context)
    return int(json.loads(place.read_text())["size"]) if place.exists() else None


def _find(context: TrainingContext) -> int:
    config = context.config
    on_gpu = config.compute.device.startswith("cuda")
    limit_mb = None if on_gpu else SHORT * context.machine.free_memory_mb
    found = batch_probe.largest_that_fits(
        larger_sizes(config),
        lambda size: batch_probe.fits_in_memory(of_size(config, size), limit_mb),
    )
    size = found or config.batch.size
    context.folder.mkdir(parents=True, exist_ok=True)
    partial = _place(context).with_suffix(".partial")
    partial.write_text(json.dumps({"size": size}))
    partial.replace(_place(context))
    return size
