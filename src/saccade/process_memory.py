"""How much memory a process has needed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil


def peak_rss_mb() -> float:
    """Highest resident memory of this process so far, in 10^6 bytes."""
    if os.name != "posix":
        return float(getattr(psutil.Process().memory_info(), "peak_wset", 0)) / 1e6
    # Linux's ru_maxrss also remembers the process that this one was forked from, and a worker
    # would be charged with its parent's memory; the high-water mark of the address space is not.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts in bytes, other systems in KiB.
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
