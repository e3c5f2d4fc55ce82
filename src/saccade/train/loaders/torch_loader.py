"""PyTorch's ``DataLoader``, in the training process or with workers."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar

from saccade.train.loaders.contract import LoaderRequest, LoaderTraits
from saccade.train.order import SampleOrder
from saccade.train.sample_source import batch_maker
from saccade.train.samples import Loaded


class TorchLoader:
    """Batches by ``torch.utils.data.DataLoader``."""

    name: ClassVar[str] = "torch"
    traits: ClassVar[LoaderTraits] = LoaderTraits()

    @staticmethod
    def available() -> str | None:
        """Always, where PyTorch is."""
        return None

    @staticmethod
    def open(request: LoaderRequest, count: int, dataset: Any) -> OpenTorchLoader:
        """Open it."""
        return OpenTorchLoader(request, dataset)


class OpenTorchLoader:
    """See `saccade.train.loaders.contract.BatchLoader`."""

    def __init__(self, request: LoaderRequest, dataset: Any) -> None:
        self._request = request
        self._maker, self.finish = batch_maker(request, dataset)
        self._iterators: list[Any] = []

    def batches(self, start: int) -> Iterator[Loaded]:
        """Batches from the ``start``-th on."""
        order, settings = self._request.order, self._request.config.loader
        if not order.shuffle:
            yield from self._iterator(list(_epoch(order, 0, 0)))
            return
        if settings.persistent or settings.workers == 0:
            yield from self._iterator(_Endless(order, start))
            return
        epoch, place = divmod(start, order.batches)
        for number in itertools.count(epoch):
            yield from self._iterator(list(_epoch(order, number, place)))
            place = 0

    def _iterator(self, batches: Any) -> Iterator[Loaded]:
        from torch.utils.data import DataLoader

        settings = self._request.config.loader
        workers = settings.workers
        loader = DataLoader(
            self._maker,
            batch_size=None,
            sampler=batches,
            collate_fn=_as_it_is,
            num_workers=workers,
            prefetch_factor=settings.prefetch if workers else None,
            multiprocessing_context=_context() if workers else None,
            worker_init_fn=_one_thread if workers else None,
            pin_memory=settings.pinned and self._request.config.compute.device != "cpu",
        )
        found = iter(loader)
        self._iterators.append(found)
        try:
            yield from found
        finally:
            _end(found)
            self._iterators.remove(found)

    def close(self) -> None:
        """End the workers."""
        for iterator in self._iterators:
            _end(iterator)


def in_process(request: LoaderRequest, dataset: Any) -> OpenTorchLoader:
    """A loader without workers, for what another backend cannot do while its threads run."""
    alone = request.config.with_loader(workers=0, persistent=False)
    return OpenTorchLoader(replace(request, config=alone), dataset)


class _Endless:
    """Batches of tickets without end, as a sampler."""

    def __init__(self, order: SampleOrder, start: int) -> None:
        self._order, self._start = order, start

    def __iter__(self) -> Iterator[Any]:
        return self._order.from_step(self._start)


def _epoch(order: SampleOrder, epoch: int, place: int) -> Iterator[Any]:
    first = epoch * order.batches + place
    return itertools.islice(order.from_step(first), order.batches - place)


def _context() -> str | None:
    """Forked workers, where there are any: a job's functions and shared caches are not pickled."""
    return "fork" if "fork" in multiprocessing.get_all_start_methods() else None


def _one_thread(worker: int) -> None:
    """Workers are there to use the cores; each using all of them again would slow all down."""
    import cv2

    cv2.setNumThreads(1)


def _as_it_is(item: Any) -> Any:
    return item


def _end(iterator: Any) -> None:
    """End the worker processes now rather than when the garbage collector comes by."""
    shut: Callable[[], None] | None = getattr(iterator, "_shutdown_workers", None)
    if shut is not None:
        shut()
