"""In which order samples are seen, as a pure function of seed and step.

Whatever else a configuration does, the k-th batch of a training is of the same samples with the
same augmentation; loss curves then compare step by step, and a training that was interrupted goes
on where it stopped without any state but the number of the step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ticket:
    """One sample of one epoch; picklable, so that loader workers need no state.

    Attributes:
        epoch: from 0.
        index: of the sample in its data set.
        seed: of everything random about it.
    """

    epoch: int
    index: int
    seed: int


@dataclass(frozen=True)
class SampleOrder:
    """A shuffled order of ``count`` samples, another one each epoch.

    Attributes:
        count: samples in the data set.
        batch: samples of a batch; what is left over at the end of an epoch is left out, unless
            that would leave nothing.
        seed: of the order and of the augmentation.
        shuffle: False keeps the order of the data set and its last, smaller batch, for judging.
        part: samples to judge on, drawn from all over the data set, always the same ones; None for
            all. Where batches are shuffled it means nothing.
        rank: which of ``world`` equal parts of each batch of ``batch * world`` samples.
        world: processes that train together.
        accumulation: batches of an optimizer step. An epoch is of whole steps, so that the k-th
            step has the same samples however it is divided into batches.
    """

    count: int
    batch: int
    seed: int = 0
    shuffle: bool = True
    rank: int = 0
    world: int = 1
    accumulation: int = 1
    part: int | None = None

    @property
    def batches(self) -> int:
        """Batches of an epoch."""
        whole = self.batch * self.world
        if not self.shuffle:
            return -(-len(self.permutation(0)) // whole)
        return max(1, self.count // (whole * self.accumulation)) * self.accumulation

    def permutation(self, epoch: int) -> NDArray[np.int64]:
        """The order of an epoch, ``(count,)``, or ``(part,)`` for judging."""
        if not self.shuffle and self.part is not None:
            # By no seed of a training: every curve is judged on the same samples.
            return np.sort(np.random.default_rng(0).permutation(self.count)[: self.part])
        if not self.shuffle:
            return np.arange(self.count)
        return np.random.default_rng((self.seed, epoch)).permutation(self.count)

    def batch_at(self, step: int) -> list[Ticket]:
        """The samples of the ``step``-th batch since the training began."""
        return next(self.from_step(step))

    def from_step(self, step: int) -> Iterator[list[Ticket]]:
        """Batches without end, beginning with the ``step``-th."""
        epoch, place = divmod(step, self.batches)
        while True:
            order = self.permutation(epoch)
            for number in range(place, self.batches):
                whole = self.batch * self.world
                # Of a data set smaller than a batch every sample is taken, some of them twice.
                first = number * whole + self.rank * self.batch
                places = range(first, first + self.batch)
                if self.shuffle:
                    chosen = [int(order[k % self.count]) for k in places]
                else:
                    chosen = [int(order[k]) for k in places if k < len(order)]
                yield [self._ticket(epoch, index) for index in chosen]
            epoch, place = epoch + 1, 0

    def _ticket(self, epoch: int, index: int) -> Ticket:
        return Ticket(epoch, index, ticket_seed(self.seed, epoch, index))


def ticket_seed(*parts: int) -> int:
    """A seed below 2^32 from several numbers, well mixed and the same on every machine."""
    text = ",".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little")
