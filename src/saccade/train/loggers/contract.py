"""What a logger of trainings is. Each kind is one file beside this one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from saccade.train.config import TrainingConfig
from saccade.train.run_state import EpochRecord
from saccade.train.watch import StepRecord


@dataclass(frozen=True)
class LogRequest:
    """What a logger is opened for.

    Attributes:
        folder: the run folder.
        config: what is trained, and how.
        first_step: the step that comes next; what was logged of it and later ones by a run that
            was interrupted is not valid any more.
        note: tells something worth a line, such as a server that is down; it is also kept among
            the events of the run.
    """

    folder: Path
    config: TrainingConfig
    first_step: int
    note: Callable[[str], None]


class OpenLogger(Protocol):
    """An open logger. Values are read from the device already; no method waits for it."""

    def steps(self, records: Sequence[StepRecord]) -> None:
        """Log steps, in order."""
        ...

    def epoch(self, record: EpochRecord) -> None:
        """Log a finished epoch."""
        ...

    def close(self) -> None:
        """Write what is left. Calling it twice is allowed."""
        ...


class TrainingLogger(Protocol):
    """A kind of logger.

    Attributes:
        name: plug-in name.
    """

    name: ClassVar[str]

    @staticmethod
    def open(request: LogRequest) -> OpenLogger:
        """Open it, or go on where an interrupted run stopped.

        Raises:
            MissingExtraError: its package is not installed.
            StorageError: the disk refused.
        """
        ...


def epoch_values(record: EpochRecord) -> dict[str, float]:
    """The numbers of an epoch under the names they are logged by."""
    values = {
        "epoch/train_loss": record.train_loss,
        "epoch/val_loss": record.loss,
        "epoch/val_metric": record.metric,
        "epoch/samples_per_s": record.samples_per_s,
    }
    return {name: value for name, value in values.items() if value is not None}
