"""The progress of a training on stderr: a bar on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from saccade.train.run_state import EpochRecord


class TrainingBar:
    """Shows steps, loss, samples per second and the time that is left.

    Satisfies `saccade.train.run_progress.RunProgress`.

    Args:
        console: where to print; by default stderr, so that stdout stays clean for ``--json``.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._steps_per_epoch = 1

    def begin(self, step: int, steps: int, steps_per_epoch: int) -> None:
        """Show the bar."""
        self._steps_per_epoch = steps_per_epoch
        if step:
            self.note(f"goes on at step {step} of {steps}")
        if not self._console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task("training", total=steps, completed=step, said="")
        self._bar.start()

    def at(self, step: int, loss: float, samples_per_s: float) -> None:
        """Move the bar."""
        if self._bar is None:
            return
        said = f"loss {loss:.4g}  {samples_per_s:.3g} samples/s"
        epoch = (step - 1) // self._steps_per_epoch + 1
        self._bar.update(self._task, completed=step, said=said, description=f"epoch {epoch}")

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        """A line."""
        self.note(epoch_line(record, epochs))

    def note(self, text: str) -> None:
        """A line above the bar."""
        printed: Callable[[Text], None] = (
            self._bar.console.print if self._bar is not None else self._console.print
        )
        # What it says may come from the user's files, and must not be read as markup.
        printed(Text("".join(char if char.isprintable() else " " for char in text)))

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def epoch_line(record: EpochRecord, epochs: int) -> str:
    """What an epoch brought, in one line."""
    parts = [f"epoch {record.epoch}/{epochs}:"]
    if record.train_loss is not None:
        parts.append(f"loss {record.train_loss:.4g},")
    parts.append(f"held-out loss {record.loss:.4g},")
    if record.metric is not None:
        parts.append(f"metric {record.metric:.4g},")
    return " ".join([*parts, f"{record.samples_per_s:.3g} samples/s"])
