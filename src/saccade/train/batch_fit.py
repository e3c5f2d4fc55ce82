"""Batches that fit into memory: the answer to running out of it, keeping the effective batch."""

from __future__ import annotations

from saccade.train.compiling import WITHOUT_GRAPHS
from saccade.train.config import TrainingConfig


def halved(config: TrainingConfig) -> TrainingConfig | None:
    """Half the batch with twice the accumulation: the same samples for each optimizer step.

    An odd batch is divided by its smallest factor instead, so that the effective batch stays; a
    batch of a prime number goes down to single samples.

    Returns:
        The next smaller configuration; None where the batch is one sample already.
    """
    size, mode = config.batch.size, config.compute.compile
    if size <= 1:
        return None
    parts = smallest_factor(size)
    # A CUDA graph would write the next pass's gradients over those that are being added up.
    config = config.with_compute(compile=WITHOUT_GRAPHS.get(mode, mode))
    return config.with_batch(size=size // parts, accumulation=config.batch.accumulation * parts)


def fitting(config: TrainingConfig, most: int | None) -> TrainingConfig:
    """Halved until no more than ``most`` samples are computed at once; None allows any number."""
    while most is not None and config.batch.size > most and (smaller := halved(config)):
        config = smaller
    return config


def smallest_factor(number: int) -> int:
    """The smallest factor above 1 of a number above 1; the number itself where it is prime."""
    found = (factor for factor in range(2, int(number**0.5) + 1) if number % factor == 0)
    return next(found, number)
