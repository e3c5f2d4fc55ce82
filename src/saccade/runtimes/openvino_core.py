"""The one `openvino.Core` of a process, which is never given up.

OpenVINO gives the thread that first compiles with a `Core` a stack for signals, and takes it away
with that `Core`. Where a second one was made in between, the thread is left with the stack of the
first, which is gone by then: the next signal (Ctrl-C, a child that ended) ends the process with a
segmentation fault instead of an exception. Seen with OpenVINO 2026.4.1 on Linux.
"""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def openvino_core() -> Any:
    """This process's ``openvino.Core``.

    Raises:
        ImportError: openvino is not installed.
    """
    import openvino

    return openvino.Core()
