"""What a stretch of training took of the machine: CPU, GPU, memory, storage."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from saccade.process_memory import peak_rss_mb


@dataclass(frozen=True)
class Used:
    """Between the making of a `Meter` and its reading.

    Attributes:
        cpu_s: CPU seconds of this process, all threads.
        kernel_s: those of them that the kernel took.
        page_faults: pages that the kernel had to provide, none of them from storage.
        busy_share: share 0-1 of the machine's time that its cores were busy.
        device_busy_share: share 0-1 of the time that the GPU ran something; None without one.
        peak_device_mb: highest memory allocated on it since the process began.
    """

    cpu_s: float
    kernel_s: float
    page_faults: int
    busy_share: float
    device_busy_share: float | None
    peak_device_mb: float | None


class Meter:
    """Reads counters at its making, and again when it is read."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._began_us = int(time.time() * 1e6)
        self._used = resource.getrusage(resource.RUSAGE_SELF)
        psutil.cpu_percent()

    def read(self) -> Used:
        """What was used since."""
        peak = None
        if self._device.startswith("cuda"):
            import torch

            peak = torch.cuda.max_memory_allocated() / 1e6
        shares = [share for _, share in gpu_samples(self._device, self._began_us)]
        before, now = self._used, resource.getrusage(resource.RUSAGE_SELF)
        kernel_s = now.ru_stime - before.ru_stime
        return Used(
            now.ru_utime - before.ru_utime + kernel_s,
            kernel_s,
            now.ru_minflt - before.ru_minflt,
            psutil.cpu_percent() / 100,
            sum(shares) / len(shares) if shares else None,
            peak,
        )


def gpu_samples(device: str, since_us: int) -> list[tuple[int, float]]:
    """Busy share 0-1 of a GPU by time, from the samples that its driver keeps.

    Empty where there is no GPU or its driver does not tell.

    Args:
        device: as PyTorch names it.
        since_us: microseconds of the day's clock (``time.time``), as are the stamps.
    """
    if not device.startswith("cuda"):
        return []
    try:
        import pynvml
        import torch

        pynvml.nvmlInit()
        # The driver counts all GPUs, PyTorch those that this process may use.
        uuid = torch.cuda.get_device_properties(torch.device(device)).uuid
        handle: Any = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        kind = pynvml.NVML_GPU_UTILIZATION_SAMPLES
        _, samples = pynvml.nvmlDeviceGetSamples(handle, kind, since_us)
    except Exception:  # no driver, no library, or no samples: the share is then unknown
        return []
    return [(int(s.timeStamp), s.sampleValue.uiVal / 100) for s in samples]


def process_tree_peak_mb() -> float:
    """Highest resident memory of this process so far, and what its workers hold now, 10^6 bytes.

    Between steps activations are freed, so that what is resident then is no peak. Of workers only
    pages that nobody else maps are counted, where the kernel tells them apart: those that a fork
    shares with this process are in its own peak.
    """
    total = peak_rss_mb()
    for process in psutil.Process().children(recursive=True):
        try:
            private = _private_mb(process.pid)
            total += process.memory_info().rss / 1e6 if private is None else private
        except psutil.Error:
            continue
    return total


def own_memory_mb() -> float:
    """Resident memory of this process and its loader workers with no file behind it, 10^6 bytes.

    It is what shows a leak: pages of libraries and of memory-mapped files come and go with what
    else runs on the machine. Pages that a fork shares with its parent count in both.
    """
    total = 0.0
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        try:
            memory = process.memory_info()
        except psutil.Error:
            continue
        total += (memory.rss - getattr(memory, "shared", 0)) / 1e6
    return total


def _private_mb(pid: int) -> float | None:
    """Pages of a process that no other maps; None where the kernel does not say."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    private = ("Private_Clean:", "Private_Dirty:")
    lines = [line.split() for line in text.splitlines() if line.startswith(private)]
    return sum(int(line[1]) for line in lines) * 1024 / 1e6


def read_bytes_of_tree() -> int:
    """Bytes that this process and its children had storage read for them."""
    total = 0
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        try:
            text = Path(f"/proc/{process.pid}/io").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("read_bytes:"):
                total += int(line.split()[1])
    return total
