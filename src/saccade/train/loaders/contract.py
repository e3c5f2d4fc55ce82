"""What makes batches. Each backend is one file beside this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

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


class LoaderBackend(Protocol):
    """A kind of loader.

    Attributes:
        name: plug-in name.
    """

    name: ClassVar[str]

    @staticmethod
    def available() -> str | None:
        """None where it can be used here, else what is missing and how to get it."""
        ...

    @staticmethod
    def open(request: LoaderRequest, count: int, dataset: Any) -> BatchLoader:
        """Open it over ``dataset``, which has ``count`` samples."""
        ...
