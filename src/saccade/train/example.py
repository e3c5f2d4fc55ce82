"""A model's input, made of the job's own first samples."""

from __future__ import annotations

from typing import Any

from saccade.train.config import TrainingConfig
from saccade.train.job import TrainingJob
from saccade.train.loading import open_loader


def example_input(job: TrainingJob, config: TrainingConfig, samples: int = 2) -> Any:
    """Some training samples as the model is fed, on the CPU; the same ones each time.

    Raises:
        DataError: they cannot be read.
    """
    alone = config.with_loader(workers=0, pinned=False, backend="torch", cache="none")
    small = alone.with_batch(size=samples, accumulation=1).with_compute(device="cpu")
    loader = open_loader(job, small)
    try:
        inputs, _ = next(iter(loader.batches(0))).data
        return loader.finish(inputs) if loader.finish is not None else inputs
    finally:
        loader.close()
