"""Pruning: a job that begins with a trained model without its least important channels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from saccade.errors import SpecError
from saccade.train.config import JobReference, TrainingConfig
from saccade.train.example import example_input
from saccade.train.job import TrainingJob
from saccade.train.narrowing import narrow


def pruned(
    job: TrainingJob, weights: Mapping[str, Any], share: float = 0.3, multiple: int = 8
) -> TrainingJob:
    """The job as a fine-tuning of its pruned model.

    Args:
        job: that the weights are of. Its optimizer's learning rate is used: choose one for
            fine-tuning.
        weights: of the trained model, as ``state_dict`` gives them.
        share: of every layer's channels that are taken out, 0-1.
        multiple: channel counts become multiples of it.

    Raises:
        SpecError: ``share`` is no share.
    """
    if not 0 < share < 1:
        raise SpecError(f"The share of channels to take out is {share}. Expected 0 to 1.")

    def model() -> Any:
        found = trained(job, weights)
        narrow(found, first_samples(job), share, multiple, "magnitude")
        return found

    return dataclasses.replace(job, model=model)


def trained(job: TrainingJob, weights: Mapping[str, Any]) -> Any:
    """The job's model with trained weights.

    Raises:
        SpecError: they are of another model.
    """
    model = job.model()
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise SpecError(f"The weights are not of the job's model: {first}") from error
    return model


def first_samples(job: TrainingJob, count: int = 2) -> Any:
    """The model's input, made of the job's first samples."""
    import torch

    config = TrainingConfig(JobReference("", "", ""))
    with torch.random.fork_rng(devices=[]):
        return example_input(job, config, count)
