"""Ctrl-C and the end of a time slot: the training ends after its step, not within it."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

# SIGTERM is what schedulers send before they take a machine away.
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Within it, a signal is remembered; a second Ctrl-C ends at once, as always.

    Attributes:
        asked: whether a signal came.
    """

    def __init__(self) -> None:
        self.asked = False
        self._owner = os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {kind: signal.signal(kind, self._note) for kind in SIGNALS}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            return self._in_child(number)
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        return None

    @staticmethod
    def _in_child(number: int) -> None:
        """A loader's worker lets the training decide on Ctrl-C, and ends when it is told to."""
        if number != signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
