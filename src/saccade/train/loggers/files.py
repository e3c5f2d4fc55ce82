"""``history.jsonl``, a line per epoch, and ``losses.csv``, a line per step. Always written."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from saccade.study import SCHEMA_VERSION, RunFolder, storage_errors, to_json
from saccade.train.loggers.contract import LogRequest
from saccade.train.run_state import EpochRecord
from saccade.train.watch import StepRecord

HISTORY, LOSSES = "history.jsonl", "losses.csv"
COLUMNS = ("step", "loss", "learning_rate")


class FileLogger:
    """The two files in the run folder."""

    name: ClassVar[str] = "files"

    @staticmethod
    def open(request: LogRequest) -> OpenFiles:
        """Cut off what an interrupted run wrote of later steps.

        Raises:
            StorageError: the disk refused.
        """
        run = RunFolder(request.folder)
        history, losses = request.folder / HISTORY, request.folder / LOSSES
        run.write_text(HISTORY, "".join(_epochs_until(history, request.first_step)))
        run.write_text(LOSSES, "".join(_steps_before(losses, request.first_step)))
        return OpenFiles(history, losses)


class OpenFiles:
    """See `saccade.train.loggers.contract.OpenLogger`."""

    def __init__(self, history: Path, losses: Path) -> None:
        self._history, self._losses = history, losses

    def steps(self, records: Sequence[StepRecord]) -> None:
        """Add lines to ``losses.csv``."""
        _append(self._losses, "".join(map(_step_line, records)))

    def epoch(self, record: EpochRecord) -> None:
        """Add a line to ``history.jsonl``."""
        line = to_json({"schema_version": SCHEMA_VERSION, **asdict(record)})
        _append(self._history, line + "\n")

    def close(self) -> None:
        """Nothing is held open."""


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The epochs in ``history.jsonl``; a line that was cut off is left out."""
    return [json.loads(line) for line in _whole_lines(folder / HISTORY)]


def _append(path: Path, text: str) -> None:
    with storage_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(text)


def _step_line(record: StepRecord) -> str:
    rate = "" if record.learning_rate is None else repr(record.learning_rate)
    return f"{record.step},{record.loss!r},{rate}\n"


def _whole_lines(path: Path) -> Iterator[str]:
    """Lines that are JSON; the last one may have been cut off by a kill."""
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            json.loads(line)
        except ValueError:
            continue
        yield line


def _epochs_until(path: Path, step: int) -> Iterator[str]:
    return (f"{line}\n" for line in _whole_lines(path) if json.loads(line)["step"] <= step)


def _steps_before(path: Path, step: int) -> Iterator[str]:
    yield ",".join(COLUMNS) + "\n"
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for row in csv.reader(file):
            if len(row) == len(COLUMNS) and row[0].isdecimal() and int(row[0]) < step:
                yield ",".join(row) + "\n"
