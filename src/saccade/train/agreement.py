"""What processes that train together have to know of each other, beside gradients.

Every method is called by all of them at the same point. Values go over gloo, also where gradients
go over NCCL, so that nothing waits for the GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from saccade.train.config import TrainingConfig

T = TypeVar("T")


class Ranks(Protocol):
    """The processes of one training.

    Attributes:
        first: whether this is the one that writes files and talks to people.
        world: how many they are.
    """

    first: bool
    world: int

    def any(self, flags: Sequence[bool]) -> tuple[bool, ...]:
        """For each flag, whether it is up on any of them."""
        ...

    def means(self, values: Sequence[float]) -> list[float]:
        """For each value, its mean over them."""
        ...

    def from_first(self, make: Callable[[], T]) -> T:
        """What ``make`` gives on the first, where alone it is called."""
        ...

    def gathered(self, value: T) -> list[T]:
        """The values of all, by rank."""
        ...


class Alone:
    """One process."""

    first = True
    world = 1

    def any(self, flags: Sequence[bool]) -> tuple[bool, ...]:
        """The flags."""
        return tuple(flags)

    def means(self, values: Sequence[float]) -> list[float]:
        """The values."""
        return list(values)

    def from_first(self, make: Callable[[], T]) -> T:
        """What it gives."""
        return make()

    def gathered(self, value: T) -> list[T]:
        """The value."""
        return [value]


class Several:
    """Processes that have joined (`saccade.train.distributed.join`)."""

    def __init__(self) -> None:
        from torch import distributed

        self.first = distributed.get_rank() == 0
        self.world = distributed.get_world_size()

    def any(self, flags: Sequence[bool]) -> tuple[bool, ...]:
        """One small exchange for all flags."""
        import torch
        from torch import distributed

        up = torch.tensor([int(flag) for flag in flags])
        distributed.all_reduce(up, op=distributed.ReduceOp.MAX)
        return tuple(bool(value) for value in up.tolist())

    def means(self, values: Sequence[float]) -> list[float]:
        """In double precision; where one is not finite the mean is not either."""
        import torch
        from torch import distributed

        if not values:
            return []
        total = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(total)
        found: list[float] = (total / self.world).tolist()
        return found

    def from_first(self, make: Callable[[], T]) -> T:
        """Pickled, so that the others need not see the first one's files."""
        from torch import distributed

        box: list[Any] = [make() if self.first else None]
        distributed.broadcast_object_list(box, src=0)
        found: T = box[0]
        return found

    def gathered(self, value: T) -> list[T]:
        """Pickled."""
        from torch import distributed

        box: list[Any] = [None] * self.world
        distributed.all_gather_object(box, value)
        return box


def ranks_of(config: TrainingConfig) -> Ranks:
    """The processes of a training; those of several have to have joined."""
    return Alone() if config.scale.strategy == "single" else Several()


def united(maps: Sequence[Mapping[int, str]]) -> dict[int, str]:
    """All entries of several mappings."""
    return {key: value for one in maps for key, value in one.items()}
