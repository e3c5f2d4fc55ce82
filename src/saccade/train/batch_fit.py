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
    size = config.batch.size
    if size <= 1:
        return None
    parts = smallest_factor(size)
    return accumulable(
        config.with_batch(size=size // parts, accumulation=config.batch.accumulation * parts)
    )


def fitting(config: TrainingConfig, most: int | None) -> TrainingConfig:
    """Halved until no more than ``most`` samples are computed at once; None allows any number.

    What comes back can add up gradients, also where nothing had to be halved.
    """
    while most is not None and config.batch.size > most and (smaller := halved(config)):
        config = smaller
    return accumulable(config)


def accumulable(config: TrainingConfig) -> TrainingConfig:
    """The same without CUDA graphs where gradients of several passes are added up.

    A graph would write the next pass's gradients over those that are being added up.
    """
    mode = config.compute.compile
    if config.batch.accumulation == 1 or mode not in WITHOUT_GRAPHS:
        return config
    return config.with_compute(compile=WITHOUT_GRAPHS[mode])


def smallest_factor(number: int) -> int:
    """The smallest factor above 1 of a number above 1; the number itself where it is prime."""
    found = (factor for factor in range(2, int(number**0.5) + 1) if number % factor == 0)
    return next(found, number)
