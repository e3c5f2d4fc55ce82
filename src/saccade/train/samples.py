"""From a ticket to a sample that is ready for a batch, with the time each part took."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from saccade.errors import DataError, SaccadeError
from saccade.train.caching import SampleCache, signature_of
from saccade.train.core_wait import queued_s
from saccade.train.decoding import Decoder, decode_with_pillow, decoded, images_in
from saccade.train.explaining import explained
from saccade.train.order import Ticket
from saccade.train.transforms.chain import own_generator

# After so many unreadable samples in a row the data set itself is taken to be broken.
PATIENCE = 20


@dataclass(frozen=True)
class Corrupt:
    """A sample that could not be read and was left out.

    Attributes:
        index: of the sample in its data set.
        reason: what was wrong with it.
    """

    index: int
    reason: str


@dataclass
class LoadTimes:
    """Seconds that samples spent in each part of the loader, of one batch.

    Attributes:
        read_s: in the data set's own ``__getitem__``.
        decode_s: in decoding image files.
        transform_s: in the transforms.
        collate_s: in making a batch of them.
        waited_s: of ``read_s`` and ``decode_s`` together, without using the CPU.
        queued_s: ready to run but without a core, in all parts; zero where the kernel tells none.
    """

    read_s: float = 0.0
    decode_s: float = 0.0
    transform_s: float = 0.0
    collate_s: float = 0.0
    waited_s: float = 0.0
    queued_s: float = 0.0

    def total_s(self) -> float:
        """All parts."""
        return self.read_s + self.decode_s + self.transform_s + self.collate_s

    @property
    def blocked_s(self) -> float:
        """Waiting for storage or the network, at least: without CPU and not for want of a core."""
        return max(0.0, self.waited_s - self.queued_s)


@dataclass(frozen=True)
class Loaded:
    """A batch as a loader hands it over.

    Attributes:
        data: ``(input, target)`` as collated.
        size: samples in it.
        times: where its samples spent their time, in whichever process prepared them.
        corrupt: samples that were left out, another taken in the place of each.
        made: process that made it, and when it began and ended, on ``time.perf_counter`` (which
            processes share on Linux); None where that is not known.
    """

    data: tuple[Any, Any]
    size: int
    times: LoadTimes = field(default_factory=LoadTimes)
    corrupt: tuple[Corrupt, ...] = ()
    made: tuple[int, float, float] | None = None


class Samples:
    """Reads, decodes and transforms samples by ticket.

    Args:
        dataset: map-style.
        transform: from a decoded sample to ``(input, target)``; None takes the sample as it is.
        decode: who decodes the image files in a sample.
        cache: where decoded samples are kept.
        expect: told which files are read next, before they are.
    """

    def __init__(
        self,
        dataset: Any,
        transform: Callable[[Any], Any] | None,
        decode: Decoder = decode_with_pillow,
        cache: SampleCache | None = None,
        expect: Callable[[list[Path]], None] | None = None,
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.decode = decode
        self.cache = cache
        self.expect = expect
        # Transforms may write to what they are given; the cache must not change by it.
        self.copied = True
        self._seed_own = own_generator(transform)

    def __len__(self) -> int:
        return len(self.dataset)

    def raw(self, index: int, times: LoadTimes) -> Any:
        """A sample, decoded and not transformed."""
        began, cpu_began = time.perf_counter(), time.thread_time()
        if self.cache is not None:
            kept = self.cache.get(
                index,
                lambda: signature_of(self.dataset[index]),
                copied=self.copied,
            )
            if kept is not None:
                times.read_s += time.perf_counter() - began
                return kept
        given = self.dataset[index]
        read = time.perf_counter()
        sample = self.opened(given)
        if self.cache is not None:
            self.cache.put(index, sample, signature_of(given))
        ended = time.perf_counter()
        times.read_s += read - began
        times.decode_s += ended - read
        times.waited_s += max(0.0, ended - began - (time.thread_time() - cpu_began))
        return sample

    def opened(self, sample: Any) -> Any:
        """A sample of the data set with its image files decoded."""
        return decoded(sample, self.decode)

    def transformed(self, sample: Any) -> Any:
        """A decoded sample, transformed with the randomness of the moment."""
        return sample if self.transform is None else self.transform(sample)

    def ready(self, ticket: Ticket, times: LoadTimes) -> Any:
        """A sample, transformed with the randomness that its ticket says."""
        sample = self.raw(ticket.index, times)
        began = time.perf_counter()
        if self.transform is not None:
            seed_everything(ticket.seed)
            if self._seed_own is not None:
                self._seed_own(ticket.seed)
        try:
            sample = self.transformed(sample)
        except Exception as error:
            raise DataError(f"the transforms raised {type(error).__name__}: {error}") from error
        times.transform_s += time.perf_counter() - began
        return sample

    def announce(self, tickets: Sequence[Ticket]) -> None:
        """Say which files are read next."""
        if self.expect is not None:
            self.expect([path for t in tickets for path in images_in(self.dataset[t.index])])

    def readable(self, ticket: Ticket, times: LoadTimes, corrupt: list[Corrupt]) -> Any:
        """`ready`, or where that sample is broken the next one in the data set that is not.

        Raises:
            DataError: too many in a row are broken.
        """
        return self.first_readable(self.ready, ticket, times, corrupt)

    def first_readable(
        self,
        prepare: Callable[[Ticket, LoadTimes], Any],
        ticket: Ticket,
        times: LoadTimes,
        corrupt: list[Corrupt],
    ) -> Any:
        """`readable`, of what ``prepare`` makes of a ticket.

        Raises:
            DataError: too many in a row are broken.
        """
        for offset in range(PATIENCE):
            index = (ticket.index + offset) % len(self)
            try:
                return prepare(Ticket(ticket.epoch, index, ticket.seed), times)
            except Exception as error:
                corrupt.append(Corrupt(index, _said(error)[:300]))
        raise DataError(
            f"{PATIENCE} samples in a row cannot be prepared, the first because of: "
            f"{corrupt[-PATIENCE].reason}. Check the job's dataset and transforms functions."
        )


class BatchMaker:
    """Makes whole batches; what loader workers run. Random states are left as they were.

    Args:
        samples: where samples come from.
        collate: list of ``(input, target)`` → one pair.
    """

    def __init__(self, samples: Samples, collate: Callable[[list[Any]], Any]) -> None:
        self._samples = samples
        self._collate = collate

    def __len__(self) -> int:
        return len(self._samples)

    def __call__(self, tickets: list[Ticket]) -> Loaded:
        """The batch of these tickets."""
        times, corrupt = LoadTimes(), []  # type: LoadTimes, list[Corrupt]
        started, queued = time.perf_counter(), queued_s()
        self._samples.announce(tickets)
        with kept_randomness():
            ready = [self._samples.readable(ticket, times, corrupt) for ticket in tickets]
        began = time.perf_counter()
        with explained("collate", ready):
            data = self._collate(ready)
        ended = time.perf_counter()
        times.collate_s += ended - began
        times.queued_s += queued_s() - queued
        made = (os.getpid(), started, ended)
        return Loaded(_pair(data), len(tickets), times, tuple(corrupt), made)

    # A map-style data set whose items are batches, as DataLoader takes them.
    __getitem__ = __call__


def _pair(data: Any) -> tuple[Any, Any]:
    if isinstance(data, tuple | list) and len(data) == 2:
        return data[0], data[1]
    raise DataError(
        f"A batch is {type(data).__name__}, not a pair of input and target. Let the job's "
        "transforms return (input, target), or its collate make that pair of a list of samples."
    )


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's global generators."""
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)


class kept_randomness:  # noqa: N801 - used as a statement, as contextlib's are
    """Puts the global generators back, so that loading in the training process changes nothing."""

    def __enter__(self) -> None:
        import torch

        self._states = random.getstate(), np.random.get_state(), torch.get_rng_state()

    def __exit__(self, *exc: object) -> None:
        import torch

        random.setstate(self._states[0])
        np.random.set_state(self._states[1])
        torch.set_rng_state(self._states[2])


def _said(error: Exception) -> str:
    """Errors of our own say what they are; others are called by their kind."""
    return str(error) if isinstance(error, SaccadeError) else f"{type(error).__name__}: {error}"
