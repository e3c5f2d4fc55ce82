"""Samples what the process takes from the machine over time, from a thread of its own."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import psutil

from saccade.profile.records import ResourceSample

# Shorter intervals would not see the kernel's 10 ms ticks advance.
DEFAULT_INTERVAL_S = 0.05
# Position of `delayacct_blkio_ticks` in /proc/<pid>/stat, counted after the command's name.
BLKIO_TICKS_FIELD = 39
SECTOR_BYTES = 512


@dataclass(frozen=True)
class RawCounters:
    """Absolute counters of the process and the machine at one moment.

    Attributes:
        t_s: when, on the sampler's clock.
        cpu_s: CPU seconds of all threads of the process.
        machine_busy_s: seconds in which the usable cores ran anything, summed over them.
        machine_total_s: seconds that passed on them, likewise.
        rss_mb: resident memory, 10^6 bytes.
        minor_faults: page faults served from memory.
        major_faults: page faults that read the disk.
        read_bytes: read from storage, not from the page cache.
        io_wait_s: blocked on storage, all live threads; zero where the kernel does not account.
        threads: live threads.
        involuntary_switches: of all threads.
        runqueue_wait_s: ready but without a core, all live threads.
    """

    t_s: float
    cpu_s: float
    machine_busy_s: float
    machine_total_s: float
    rss_mb: float
    minor_faults: int
    major_faults: int
    read_bytes: int
    io_wait_s: float
    threads: int
    involuntary_switches: int
    runqueue_wait_s: float


class CounterSource(Protocol):
    """Reads the counters; replaced in tests."""

    def __call__(self, t_s: float) -> RawCounters:
        """The counters now, stamped ``t_s``."""
        ...


class ResourceSampler:
    """Context manager that samples the process until it is left.

    A sample costs well under a millisecond, so at the default interval the thread takes about
    one percent of one core; the profile's stated overhead includes it.

    Args:
        interval_s: seconds between samples.
        clock: the clock of the trace's spans.
        source: where the counters come from.
    """

    def __init__(
        self,
        interval_s: float = DEFAULT_INTERVAL_S,
        clock: Callable[[], float] = time.perf_counter,
        source: CounterSource | None = None,
    ) -> None:
        if interval_s <= 0:
            raise ValueError(f"The sampling interval is {interval_s} s; expected more than zero.")
        self._interval = interval_s
        self._clock = clock
        self._source = source or ProcessCounters()
        self._raw: list[RawCounters] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> ResourceSampler:
        """Take the first sample and start sampling."""
        self._stop.clear()
        self.sample_once()
        self._thread = threading.Thread(target=self._loop, name="resources", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop and take the last sample."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.sample_once()

    def sample_once(self) -> None:
        """Read the counters now."""
        self._raw.append(self._source(self._clock()))

    @property
    def samples(self) -> tuple[ResourceSample, ...]:
        """What was seen so far."""
        return to_samples(tuple(self._raw))

    def _loop(self) -> None:
        while not self._stop.wait(self._interval):
            self.sample_once()


def to_samples(raw: Iterable[RawCounters]) -> tuple[ResourceSample, ...]:
    """Turn absolute counters into rates since the last sample and totals since the first. Pure.

    Where too little time passed for the machine's ticks to advance, ``machine_busy`` keeps its
    previous value. Waits are summed over live threads, and a thread that ends takes its share
    with it, so these totals are kept from falling.
    """
    counters = tuple(raw)
    samples: list[ResourceSample] = []
    for now, last in zip(counters, counters[:1] + counters[:-1], strict=True):
        previous = samples[-1] if samples else None
        samples.append(_sample(now, last, counters[0], previous))
    return tuple(samples)


def _sample(
    now: RawCounters, last: RawCounters, first: RawCounters, previous: ResourceSample | None
) -> ResourceSample:
    wall_s = now.t_s - last.t_s
    total_s = now.machine_total_s - last.machine_total_s
    busy = previous.machine_busy if previous else 0.0
    if total_s > 0:
        busy = min(1.0, max(0.0, (now.machine_busy_s - last.machine_busy_s) / total_s))
    return ResourceSample(
        t_s=now.t_s,
        cpu_percent=100 * (now.cpu_s - last.cpu_s) / wall_s if wall_s > 0 else 0.0,
        machine_busy=busy,
        rss_mb=now.rss_mb,
        minor_faults=now.minor_faults - first.minor_faults,
        major_faults=now.major_faults - first.major_faults,
        read_mb=(now.read_bytes - first.read_bytes) / 1e6,
        io_wait_s=max(now.io_wait_s - first.io_wait_s, previous.io_wait_s if previous else 0.0),
        threads=now.threads,
        involuntary_switches=now.involuntary_switches - first.involuntary_switches,
        runqueue_wait_s=max(
            now.runqueue_wait_s - first.runqueue_wait_s,
            previous.runqueue_wait_s if previous else 0.0,
        ),
    )


class ProcessCounters:
    """Reads this process from ``/proc`` and ``getrusage``, or from psutil where those are missing.

    Args:
        proc: this process's folder in ``/proc``.
    """

    def __init__(self, proc: Path = Path("/proc/self")) -> None:
        self._proc = proc
        self._process = psutil.Process()
        self._cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        self._tick_hz = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100

    def __call__(self, t_s: float) -> RawCounters:
        """All counters now."""
        busy, total = self._machine()
        minor, major, switches, sectors = self._usage()
        tasks = _task_folders(self._proc)
        return RawCounters(
            t_s=t_s,
            cpu_s=time.process_time(),
            machine_busy_s=busy,
            machine_total_s=total,
            rss_mb=self._process.memory_info().rss / 1e6,
            minor_faults=minor,
            major_faults=major,
            read_bytes=_read_bytes(self._proc, sectors * SECTOR_BYTES),
            io_wait_s=sum(_blkio_ticks(task) for task in tasks) / self._tick_hz,
            threads=len(tasks) or self._process.num_threads(),
            involuntary_switches=switches,
            runqueue_wait_s=sum(_runqueue_ns(task) for task in tasks) / 1e9,
        )

    def _machine(self) -> tuple[float, float]:
        """Busy and total seconds of the usable cores; waiting for storage counts as idle."""
        per_core = psutil.cpu_times(percpu=True)
        wanted = self._cores if self._cores is not None else range(len(per_core))
        busy = total = 0.0
        for times in (per_core[core] for core in wanted if core < len(per_core)):
            # Guest time is already part of user time.
            seconds = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
            total += seconds
            busy += seconds - times.idle - getattr(times, "iowait", 0.0)
        return busy, total

    def _usage(self) -> tuple[int, int, int, int]:
        """Minor faults, major faults, involuntary switches and sectors read, all threads."""
        try:
            import resource
        except ImportError:  # Windows
            return 0, 0, self._process.num_ctx_switches().involuntary, 0
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_minflt, usage.ru_majflt, usage.ru_nivcsw, usage.ru_inblock


def _task_folders(proc: Path) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(proc / "task")]
    except OSError:
        return []


def _read_bytes(proc: Path, otherwise: int) -> int:
    # Some containers forbid reading `io`; the count of sectors is coarser and always there.
    for line in _text(f"{proc}/io").splitlines():
        if line.startswith("read_bytes:"):
            return int(line.split()[1])
    return otherwise


def _blkio_ticks(task: str) -> int:
    # The command's name may hold spaces and parentheses; fields are counted after the last one.
    fields = _text(f"{task}/stat").rpartition(")")[2].split()
    return int(fields[BLKIO_TICKS_FIELD]) if len(fields) > BLKIO_TICKS_FIELD else 0


def _runqueue_ns(task: str) -> int:
    fields = _text(f"{task}/schedstat").split()
    return int(fields[1]) if len(fields) >= 2 else 0


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - hot path
            return file.read()
    except OSError:  # the thread has ended, or the kernel has no such file
        return ""
