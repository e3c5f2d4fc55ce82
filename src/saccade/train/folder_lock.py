"""Only one process trains in a run folder at a time."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from saccade.errors import SpecError
from saccade.study import storage_errors

LOCK = ".training.lock"


@contextlib.contextmanager
def only_trainer(folder: Path) -> Iterator[None]:
    """Hold the folder. The kernel lets go of it when the process ends, however it ends.

    A lock of the kind that child processes do not inherit: loader workers may outlive a kill by
    some seconds, and must not keep the next run waiting.

    Raises:
        SpecError: another process trains there.
    """
    path = folder / LOCK
    with storage_errors(path):
        file = path.open("w")
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SpecError(
                f"Another process trains in '{folder}' right now. Wait for it, or choose another "
                "--out."
            ) from error
        yield
