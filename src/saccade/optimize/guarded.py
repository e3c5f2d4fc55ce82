"""What a change raises that nobody foresaw costs that change, and not the study."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from saccade.errors import ChangeFailure, SaccadeError
from saccade.prediction import Prediction

Context = TypeVar("Context", contravariant=True)


class Promising(Protocol[Context]):
    """The part of a change, of a pipeline or of a training, that planning asks."""

    def applies(self, context: Context) -> str | None:
        """None where it can be made, else why not."""
        ...

    def predict(self, context: Context) -> Prediction:
        """What it is expected to bring."""
        ...


@contextmanager
def unforeseen() -> Iterator[None]:
    """Turn any exception that is not saccade's own into a `ChangeFailure` that says where it arose.

    Raises:
        ChangeFailure: as said; saccade's own errors pass as they are.
    """
    try:
        yield
    except SaccadeError:
        raise
    except Exception as error:
        raise ChangeFailure(_told(error)) from error


def considered(change: Promising[Context], context: Context) -> Prediction | str:
    """What a change promises, or why it cannot be made."""
    try:
        with unforeseen():
            return change.applies(context) or change.predict(context)
    except ChangeFailure as failure:
        return f"could not be looked at: {failure}"


def _told(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    said = str(error).strip().partition("\n")[0]
    return (
        f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}: {said} (an "
        "error in saccade or in a library that it calls, not in what was asked)"
    )
