"""Pruning: a job that begins with a trained model without its least important channels."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from saccade.errors import SpecError
from saccade.train.config import JobReference, TrainingConfig
from saccade.train.example import example_input
from saccade.train.job import TrainingJob
from saccade.train.narrowing import narrow

SHARE, MULTIPLE = 0.3, 8


class PruneRecipe:
    """``prune`` or ``prune=0.3``: the share of every layer's channels that goes."""

    usage: ClassVar[str] = "prune=SHARE, such as prune=0.3"

    @staticmethod
    def apply(job: TrainingJob, original: TrainingJob, argument: str) -> TrainingJob:
        """The job of the pruned model.

        Raises:
            SpecError: the argument is no share.
        """
        try:
            share = float(argument) if argument else SHARE
        except ValueError as error:
            raise SpecError(
                f"'{argument}' is no share of channels. Expected {PruneRecipe.usage}."
            ) from error
        return pruned(job, share)


def pruned(job: TrainingJob, share: float = SHARE) -> TrainingJob:
    """The job as a fine-tuning of its pruned model.

    Args:
        job: whose model begins with trained weights. Its optimizer's learning rate is used: choose
            one for fine-tuning.
        share: of every layer's channels that are taken out, 0-1; counts become multiples of
            `MULTIPLE`.

    Raises:
        SpecError: ``share`` is no share.
    """
    if not 0 < share < 1:
        raise SpecError(f"The share of channels to take out is {share}. Expected 0 to 1.")

    def model() -> Any:
        found = job.model()
        narrow(found, first_samples(job), share, MULTIPLE, "magnitude")
        return found

    return dataclasses.replace(job, model=model)


def first_samples(job: TrainingJob, count: int = 2) -> Any:
    """The model's input, made of the job's first samples."""
    import torch

    config = TrainingConfig(JobReference("", "", ""))
    with torch.random.fork_rng(devices=[]):
        return example_input(job, config, count)
