"""Threads that decode and augment by plan, each sample straight into its place in the batch.

Decoding and resizing do not hold Python's global lock, so threads do what worker processes do
without copying batches between processes. Batches leave as uint8 with their channels side by
side; normalization is left to the device.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from saccade.errors import SpecError
from saccade.train.loaders.contract import BatchLoader, LoaderRequest, LoaderTraits
from saccade.train.loaders.torch_loader import in_process
from saccade.train.order import Ticket
from saccade.train.planned_samples import Form, PlannedSamples, planned
from saccade.train.sample_source import fill, reader
from saccade.train.samples import Corrupt, Loaded, LoadTimes
from saccade.train.shards import ShardReader
from saccade.train.storing import open_cache


class ThreadLoader:
    """Batches by threads of the training process."""

    name: ClassVar[str] = "threads"
    traits: ClassVar[LoaderTraits] = LoaderTraits(
        "by_crop", normalizes_on_device=True, collates_in_place=True, keeps_workers=True
    )

    @staticmethod
    def available() -> str | None:
        """Always, where PyTorch is."""
        return None

    @staticmethod
    def open(request: LoaderRequest, count: int, dataset: Any) -> BatchLoader:
        """Open it; held-out data whose transforms cannot be planned is left to PyTorch's loader.

        Raises:
            SpecError: the job's transforms cannot be planned.
        """
        found = planned_for(request, dataset)
        if not isinstance(found, str):
            return OpenThreadLoader(request, *found)
        if request.split == "train":
            raise SpecError(
                f"The loader '{request.config.loader.backend}' cannot be used: {found}. Use the "
                "loader 'torch', or transforms that torchvision has a name for."
            )
        return in_process(request, dataset)


def planned_for(request: LoaderRequest, dataset: Any) -> tuple[PlannedSamples, Form] | str:
    """Samples by plan as a request wants them, or why that is impossible."""
    job, settings = request.job, request.config.loader
    if job.collate is not None:
        return "the job makes its batches itself"
    transform = job.transforms(request.split) if job.transforms is not None else None
    read = reader(request, dataset)
    return planned(
        dataset,
        transform,
        read,
        scaled=settings.decode == "scaled",
        cache=open_cache(request, len(dataset)),
        expect=read.expect if isinstance(read, ShardReader) else None,
    )


@dataclass
class _Batch:
    """A batch in the making."""

    images: Any
    targets: Any
    size: int
    parts: list[Future[tuple[LoadTimes, list[Corrupt]]]]


class OpenThreadLoader:
    """See `saccade.train.loaders.contract.BatchLoader`."""

    def __init__(self, request: LoaderRequest, samples: PlannedSamples, form: Form) -> None:
        settings, compute = request.config.loader, request.config.compute
        self._request, self._samples, self._form = request, samples, form
        self._pinned = settings.pinned and compute.device.startswith("cuda")
        self.finish: Callable[[Any], Any] | None = replace(
            samples.plan.normalization, contiguous=not compute.channels_last
        )
        if samples.cache is not None and request.split == "train":
            fill(samples, settings.workers or None)
        workers = max(1, settings.workers)
        self._ahead = max(1, settings.prefetch) * workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="saccade-load")

    def batches(self, start: int) -> Iterator[Loaded]:
        """Batches from the ``start``-th on."""
        order = self._request.order
        tickets = order.from_step(start)
        if not order.shuffle:
            tickets = itertools.islice(tickets, order.batches)
        waiting: collections.deque[_Batch] = collections.deque()
        for batch in itertools.islice(tickets, self._ahead):
            waiting.append(self._begun(batch))
        while waiting:
            done = _finished(waiting.popleft())
            following = next(tickets, None)
            if following is not None:
                waiting.append(self._begun(following))
            yield done

    def _begun(self, tickets: list[Ticket]) -> _Batch:
        import torch

        self._samples.announce(tickets)
        form, count = self._form, len(tickets)
        images = torch.empty((count, *form.hwc), dtype=torch.uint8, pin_memory=self._pinned)
        targets = torch.empty(
            (count, *form.target_shape), dtype=form.target_dtype, pin_memory=self._pinned
        )
        parts = [
            self._pool.submit(self._prepare, ticket, images[place], targets[place : place + 1])
            for place, ticket in enumerate(tickets)
        ]
        return _Batch(images, targets, count, parts)

    def _prepare(self, ticket: Ticket, image: Any, target: Any) -> tuple[LoadTimes, list[Corrupt]]:
        import numpy as np

        times, corrupt = LoadTimes(), []  # type: LoadTimes, list[Corrupt]
        pixels, wanted = self._samples.readable(ticket, times, corrupt)
        np.copyto(image.numpy(), pixels)
        np.copyto(target.numpy()[0:1], np.asarray(wanted)[None], casting="unsafe")
        return times, corrupt

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _finished(batch: _Batch) -> Loaded:
    times, corrupt = LoadTimes(), []  # type: LoadTimes, list[Corrupt]
    for part in batch.parts:
        spent, broken = part.result()
        corrupt += broken
        for name, seconds in vars(spent).items():
            setattr(times, name, getattr(times, name) + seconds)
    images = batch.images.permute(0, 3, 1, 2)
    return Loaded((images, batch.targets), batch.size, times, tuple(corrupt))
