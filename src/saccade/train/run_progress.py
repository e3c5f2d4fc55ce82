"""`RunProgress`: how a training tells a person how far it is, without knowing where it is shown."""

from __future__ import annotations

from typing import Protocol

from saccade.train.run_state import EpochRecord


class RunProgress(Protocol):
    """Receives how far a training is. No method may raise or block."""

    def begin(self, step: int, steps: int, steps_per_epoch: int) -> None:
        """Training begins or goes on at ``step`` of ``steps``."""
        ...

    def at(self, step: int, loss: float, samples_per_s: float) -> None:
        """``step`` steps are done; the loss is that of the last one that was read."""
        ...

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        """An epoch is done."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...

    def close(self) -> None:
        """It is over or was interrupted. Calling it twice is allowed."""
        ...


class SilentRun:
    """Says nothing."""

    def begin(self, step: int, steps: int, steps_per_epoch: int) -> None:
        """Say nothing."""

    def at(self, step: int, loss: float, samples_per_s: float) -> None:
        """Say nothing."""

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Do nothing."""
