"""How long a thread waits for a core, which is not waiting for storage."""

from __future__ import annotations

import os
import threading


def queued_s() -> float:
    """Seconds that this thread was ready to run but had no core, since it began.

    0 where the kernel does not tell. The second number of a thread's ``schedstat``, nanoseconds
    (Linux, Documentation/scheduler/sched-stats.rst).
    """
    try:
        if _OWN.file is None or _OWN.file.process != os.getpid():
            _OWN.file = _Schedstat()
        return int(os.pread(_OWN.file.number, 128, 0).split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


class _Schedstat:
    """The kernel's file about this thread, kept open: opening takes longer than reading."""

    def __init__(self) -> None:
        self.process, self.number = os.getpid(), -1
        self.number = os.open("/proc/thread-self/schedstat", os.O_RDONLY)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


class _Own(threading.local):
    """Of one thread; a forked process inherits that of the thread that forked it."""

    file: _Schedstat | None = None


_OWN = _Own()
