"""What makes batches. Each backend is one file beside this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from saccade.train.config import TrainingConfig
from saccade.train.job import TrainingJob
from saccade.train.order import SampleOrder
from saccade.train.samples import Loaded


@dataclass(frozen=True)
class LoaderRequest:
    """What a loader is opened for.

    Attributes:
        split: ``"train"`` or ``"val"``.
        order: which samples make which batch.
    """

    job: TrainingJob
    config: TrainingConfig
    split: str
    order: SampleOrder


class BatchLoader(Protocol):
    """An open loader.

    Attributes:
        finish: what is left to do to a batch's input on the device, such as normalizing
            ``(N, C, H, W)`` uint8; None where it is ready.
    """

    finish: Callable[[Any], Any] | None

    def batches(self, start: int) -> Iterator[Loaded]:
        """Batches from the ``start``-th of the training on; without end where shuffled.

        Raises:
            DataError: samples cannot be read.
        """
        ...

    def close(self) -> None:
        """End workers and free caches. Calling it twice is allowed."""
        ...


@dataclass(frozen=True)
class LoaderTraits:
    """What a kind of loader does by itself, whatever the settings say.

    Attributes:
        decodes: ``"as_set"`` by the library and at the size that the settings say; ``"by_crop"``
            by its own, as small as the drawn crop allows where ``decode`` is ``"scaled"``;
            ``"crop"`` by its own, and nothing but the drawn crop.
        normalizes_on_device: batches leave it as uint8.
        collates_in_place: samples are written into their place in the batch.
        keeps_workers: they outlive the epoch.
        takes_cache: samples may come from a cache.
    """

    decodes: Literal["as_set", "by_crop", "crop"] = "as_set"
    normalizes_on_device: bool = False
    collates_in_place: bool = False
    keeps_workers: bool = False
    takes_cache: bool = True


class LoaderBackend(Protocol):
    """A kind of loader.

    Attributes:
        name: plug-in name.
        traits: what it does by itself.
    """

    name: ClassVar[str]
    traits: ClassVar[LoaderTraits]

    @staticmethod
    def available() -> str | None:
        """None where it can be used here, else what is missing and how to get it."""
        ...

    @staticmethod
    def open(request: LoaderRequest, count: int, dataset: Any) -> BatchLoader:
        """Open it over ``dataset``, which has ``count`` samples."""
        ...
