"""Checkpoints: written whole or not at all, checked when read, the newest and the best kept.

A file is written beside its place, flushed to the disk and renamed, so that a process that is
killed leaves either the new checkpoint or none. What the disk itself damages is found by the
checksum (CRC-32) that ``torch.save`` stores with every tensor, and the checkpoint before is taken.
"""

from __future__ import annotations

import errno
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saccade.errors import SpecError, StorageError, first_line
from saccade.study import storage_errors
from saccade.train.memory_failure import is_out_of_memory

FORMAT = 1
KEPT = 2
_NAME = re.compile(r"step-(\d{8})\.pt")
_UNFINISHED, _DAMAGED = ".unfinished", ".damaged"


@dataclass(frozen=True)
class Newest:
    """The newest checkpoint that is sound.

    Attributes:
        step: steps that were taken when it was written; 0 where there is none.
        content: what was saved; None where there is none.
        damaged: names of newer ones that could not be used and were set aside.
    """

    step: int
    content: dict[str, Any] | None
    damaged: tuple[str, ...] = ()


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: where they lie; made when the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read_back = False

    def steps(self) -> list[int]:
        """Steps of the checkpoints there are, oldest first."""
        if not self.folder.is_dir():
            return []
        found = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.folder / f"step-{step:08}.pt"

    def save(self, step: int, content: dict[str, Any], best: int | None = None) -> None:
        """Write a checkpoint; keep it, the one before and that of the ``best`` step.

        Raises:
            StorageError: the disk refused.
            SpecError: the first one cannot be read back, because of what is in it.
        """
        write_tensors(self.path(step), {"format": FORMAT, "step": step, **content})
        if not self._read_back and step > 0:
            self._check_readable(step)
        keep = {*self.steps()[-KEPT:], best, step}
        for old in self.steps():
            if old not in keep:
                self.path(old).unlink(missing_ok=True)

    def _check_readable(self, step: int) -> None:
        """Read the first one back, so that a job whose state cannot be kept is refused early."""
        import torch

        self._read_back = True
        try:
            torch.load(self.path(step), map_location="cpu", weights_only=True)
        except Exception as error:
            if isinstance(error, OSError) or is_out_of_memory(error):
                raise
            self.path(step).unlink(missing_ok=True)
            raise SpecError(
                "The training could not go on after an interruption, because the state of its "
                "optimizer, scheduler or model holds more than tensors and plain values: "
                f"{first_line(error)}. Let their state_dict() hold nothing else."
            ) from error

    def load(self, step: int) -> dict[str, Any] | None:
        """The content of a checkpoint, None where it is damaged or gone.

        Raises:
            StorageError: the disk does not let it be read; it may well be sound.
            Exception: memory does not suffice to read it.
        """
        import torch

        try:
            with zipfile.ZipFile(self.path(step)) as archive:
                if archive.testzip() is not None:
                    return None
            content = torch.load(self.path(step), map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever a damaged archive or pickle makes the readers raise
            # A damaged archive may name a place in the file that cannot be.
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise StorageError(
                    f"The checkpoint '{self.path(step)}' cannot be read: "
                    f"{error.strerror or error}. Check the disk and the file's permissions, and "
                    "run the same command again."
                ) from error
            if is_out_of_memory(error):
                raise
            return None
        fits = isinstance(content, dict) and content.get("format") == FORMAT
        return content if fits and content.get("step") == step else None

    def newest(self) -> Newest:
        """The newest checkpoint that is sound. Newer ones that are not get another name.

        Raises:
            StorageError: one cannot be read or renamed.
        """
        self._clear_unfinished()
        damaged: list[str] = []
        for step in reversed(self.steps()):
            content = self.load(step)
            if content is not None:
                return Newest(step, content, tuple(damaged))
            path = self.path(step)
            with storage_errors(path):
                path.rename(path.with_name(path.name + _DAMAGED))
            damaged.append(path.name)
        return Newest(0, None, tuple(damaged))

    def _clear_unfinished(self) -> None:
        for path in self.folder.glob(f"*{_UNFINISHED}"):
            path.unlink(missing_ok=True)


def write_tensors(target: Path, content: Any) -> None:
    """``torch.save`` that leaves the whole file or none, also where the power fails.

    Raises:
        StorageError: the disk refused.
    """
    import torch

    temporary = target.with_name(target.name + _UNFINISHED)
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                _save(torch, content, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
            _flush_folder(target.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _save(torch: Any, content: Any, file: Any) -> None:
    try:
        torch.save(content, file)
    except RuntimeError as error:
        # PyTorch's archive writer hides what the disk said behind its own error.
        cause = error.__context__ or error.__cause__
        if isinstance(cause, OSError):
            raise cause from error
        raise


def _flush_folder(folder: Path) -> None:
    """A rename is on the disk when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
