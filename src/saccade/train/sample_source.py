"""Puts together what prepares samples, as the loader settings say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from saccade.train.loaders.contract import LoaderRequest
from saccade.train.samples import BatchMaker, Samples

Finish = Callable[[Any], Any]


def batch_maker(request: LoaderRequest, dataset: Any) -> tuple[BatchMaker, Finish | None]:
    """Who makes batches of ``dataset``, and what is left to do to them on the device."""
    from torch.utils.data import default_collate

    job = request.job
    transform = job.transforms(request.split) if job.transforms is not None else None
    return BatchMaker(Samples(dataset, transform), job.collate or default_collate), None
