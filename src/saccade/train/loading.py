"""Opens the loader that a configuration asks for."""

from __future__ import annotations

from typing import Any

from saccade import plugins
from saccade.errors import DataError, SaccadeError
from saccade.train.config import TrainingConfig
from saccade.train.job import TrainingJob
from saccade.train.loaders.contract import BatchLoader, LoaderRequest
from saccade.train.order import SampleOrder

EXPECTED = "It has to return a data set with __len__ and __getitem__ for 'train' and for 'val'."


def open_dataset(job: TrainingJob, split: str) -> tuple[Any, int]:
    """The data set of a split and how many samples it has.

    Raises:
        DataError: it cannot be made, has no length, or is empty.
    """
    try:
        dataset = job.dataset(split)
    except SaccadeError as error:
        raise DataError(f"The job's dataset({split!r}) failed: {error}") from error
    except Exception as error:
        raise DataError(
            f"The job's dataset({split!r}) failed: {type(error).__name__}: {error}. {EXPECTED}"
        ) from error
    try:
        count = len(dataset)
    except Exception as error:
        got = "None" if dataset is None else f"a {type(dataset).__name__}, which has no length"
        raise DataError(f"The job's dataset({split!r}) returned {got}. {EXPECTED}") from error
    if count == 0:
        raise DataError(f"The job's dataset({split!r}) is empty. Check where it looks for data.")
    return dataset, count


def open_loader(
    job: TrainingJob,
    config: TrainingConfig,
    split: str = "train",
    rank: int = 0,
    part: int | None = None,
) -> BatchLoader:
    """A loader of a split.

    Args:
        job: whose data are loaded.
        config: how.
        split: which of them.
        rank: of this process among those that train together.
        part: see `SampleOrder`.

    Raises:
        DataError: the data set cannot be used.
        MissingExtraError: the backend is not installed.
    """
    dataset, count = open_dataset(job, split)
    order = SampleOrder(
        count,
        config.batch.size,
        config.seed,
        shuffle=split == "train",
        rank=rank if split == "train" else 0,
        world=config.scale.world if split == "train" else 1,
        accumulation=config.batch.accumulation,
        part=part,
    )
    backend = plugins.load("loaders", config.loader.backend)
    loader: BatchLoader = backend.open(LoaderRequest(job, config, split, order), count, dataset)
    return loader
