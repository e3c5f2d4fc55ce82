"""TensorBoard event files, in ``tensorboard/`` of the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from saccade.errors import MissingExtraError
from saccade.train.loggers.contract import LogRequest, epoch_values
from saccade.train.run_state import EpochRecord
from saccade.train.watch import StepRecord


class TensorBoardLogger:
    """``tensorboard --logdir RUN/tensorboard`` shows it."""

    name: ClassVar[str] = "tensorboard"

    @staticmethod
    def open(request: LogRequest) -> OpenTensorBoard:
        """Open a writer; what an interrupted run wrote of later steps is marked as void.

        Raises:
            MissingExtraError: tensorboard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("tensorboard", "tensorboard", "--log tensorboard") from error
        folder = request.folder / "tensorboard"
        return OpenTensorBoard(SummaryWriter(str(folder), purge_step=request.first_step))


class OpenTensorBoard:
    """See `saccade.train.loggers.contract.OpenLogger`."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def steps(self, records: Sequence[StepRecord]) -> None:
        """Loss and learning rate of each step."""
        for record in records:
            self._writer.add_scalar("step/loss", record.loss, record.step)
            if record.learning_rate is not None:
                self._writer.add_scalar("step/learning_rate", record.learning_rate, record.step)

    def epoch(self, record: EpochRecord) -> None:
        """What was found at the end of an epoch, at the last step of it."""
        for name, value in epoch_values(record).items():
            self._writer.add_scalar(name, value, record.step - 1)
        self._writer.flush()

    def close(self) -> None:
        """Write the rest."""
        self._writer.close()
