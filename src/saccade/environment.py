"""`Environment`: the machine a measurement was made on, and how quiet it is right now."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from saccade.pipeline.config import digest, library_versions

SCHEMA_VERSION = 1

# Instruction sets that decide which kernels a runtime picks, as the Linux kernel spells them.
RELEVANT_FLAGS = (
    "sse4_2",
    "avx",
    "f16c",
    "fma",
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "neon",
    "asimd",
    "asimdhp",
    "asimddp",
    "bf16",
    "i8mm",
    "sve",
    "sve2",
    "sme",
)
# Apple's names for the same instruction sets (`sysctl hw.optional`).
APPLE_FLAGS = {
    "hw.optional.neon": "neon",
    "hw.optional.AdvSIMD": "asimd",
    "hw.optional.arm.FEAT_FP16": "asimdhp",
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_BF16": "bf16",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_SME": "sme",
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512f",
}
# cgroup v1 writes "no limit" as a number near 2^63; no machine has this many megabytes.
UNLIMITED_MB = 1e9
COMMAND_TIMEOUT_S = 5.0

# Factor that makes the median absolute deviation comparable to a standard deviation.
MAD_TO_SIGMA = 1.4826
# Below this spread a few percent can be told apart; above the next, only large differences.
QUIET_PERCENT = 2.0
NOISY_PERCENT = 8.0
# More steal than this means that other guests take the core away often enough to see.
STEAL_PERCENT = 1.0
NOISE_BLOCK_ITERATIONS = 40_000
MIN_NOISE_BLOCKS = 5


@dataclass(frozen=True)
class Environment:
    """The machine. Two measurements compare only if the `hash` of theirs agrees.

    Attributes:
        cpu_model: marketing name, or the closest that the platform tells.
        isa_flags: instruction sets that matter to inference, in a fixed order.
        cores: cores this process may use: affinity and cgroup quota taken into account.
        governor: CPU frequency governor, empty where the kernel does not tell.
        memory_mb: memory this process may use in 10^6 bytes, cgroup limit included.
        gpu: name and driver of the first NVIDIA GPU, on a Jetson without ``nvidia-smi`` the board
            and its Linux release; None where there is none.
        os: system and kernel release.
        python: version of the interpreter.
        libraries: versions of the packages that decide behaviour and speed.
    """

    cpu_model: str
    isa_flags: tuple[str, ...]
    cores: int
    governor: str
    memory_mb: float
    gpu: str | None
    os: str
    python: str
    libraries: dict[str, str]

    @property
    def hash(self) -> str:
        """Content hash of what decides whether two measurements compare.

        Memory is left out: its size varies by a few pages from boot to boot and does not
        change speed until it is short, which a profile shows.
        """
        document = self.to_dict()
        del document["memory_mb"], document["schema_version"]
        return digest(document)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready document; `from_dict` is its inverse."""
        document = dataclasses.asdict(self)
        return {"schema_version": SCHEMA_VERSION, **document, "isa_flags": list(self.isa_flags)}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Environment:
        """The inverse of `to_dict`; keys it does not know are ignored."""
        known = {field.name for field in dataclasses.fields(cls)}
        data = {key: value for key, value in document.items() if key in known}
        return cls(**{**data, "isa_flags": tuple(data["isa_flags"])})


@cache
def detect() -> Environment:
    """Look at this machine. Never raises: what cannot be found out is left empty."""
    cpuinfo = _read(Path("/proc/cpuinfo"))
    return Environment(
        cpu_model=cpu_model(cpuinfo) or _fallback_cpu_model(),
        isa_flags=isa_flags(cpuinfo) or _fallback_flags(),
        cores=usable_cores(),
        governor=_read(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")).strip(),
        memory_mb=usable_memory_mb(),
        gpu=_gpu() or jetson(),
        os=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        libraries=dict(library_versions()),
    )


def cpu_model(cpuinfo: str) -> str:
    """CPU name in the text of ``/proc/cpuinfo``; empty where it has none."""
    named = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    if named:
        return " ".join(named.group(1).split())
    parts = [
        found.group(1)
        for key in ("CPU implementer", "CPU part")
        if (found := re.search(rf"^{key}\s*:\s*(\S+)", cpuinfo, re.MULTILINE))
    ]
    return f"{platform.machine()} {' '.join(parts)}" if parts else ""


def isa_flags(cpuinfo: str) -> tuple[str, ...]:
    """Relevant instruction sets in the text of ``/proc/cpuinfo``."""
    line = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    found = set(line.group(1).split()) if line else set()
    return tuple(flag for flag in RELEVANT_FLAGS if flag in found)


def usable_cores() -> int:
    """Cores this process may use at the same time: affinity, then the cgroup's CPU quota."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    quota = cpu_quota()
    # A quota of 1.5 cores keeps one thread busy all the time; a second would be throttled.
    return max(1, min(allowed, math.floor(quota))) if quota else allowed


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The tightest CPU quota of this process's cgroups (v2 and v1) in cores, or None.

    Args:
        root: where ``proc`` and ``sys`` are mounted.
    """
    quotas = []
    for folder in _cgroup_folders(root, "cpu"):
        limit, _, period = _read(folder / "cpu.max").partition(" ")
        if not limit:
            limit = _read(folder / "cpu.cfs_quota_us").strip()
            period = _read(folder / "cpu.cfs_period_us")
        quota, length = _number(limit), _number(period)
        if quota and length and quota > 0:
            quotas.append(quota / length)
    return min(quotas, default=None)


def memory_limit_mb(root: Path = Path("/")) -> float | None:
    """The tightest memory limit of this process's cgroups (v2 and v1), or None."""
    limits = []
    for folder in _cgroup_folders(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _number(_read(folder / name))
            if limit and limit / 1e6 < UNLIMITED_MB:
                limits.append(limit / 1e6)
    return min(limits, default=None)


def usable_memory_mb() -> float:
    """Memory this process may use in 10^6 bytes."""
    import psutil

    total = psutil.virtual_memory().total / 1e6
    return round(min(total, memory_limit_mb() or total), 1)


def _cgroup_folders(root: Path, controller: str) -> list[Path]:
    """The process's cgroup of ``controller`` and its ancestors: a limit on any of them binds."""
    folders: list[Path] = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / (controllers and controller)
        inner = base / path.lstrip("/")
        folders += [inner, *(p for p in inner.parents if p == base or base in p.parents)]
    return folders


def _fallback_cpu_model() -> str:
    if platform.system() == "Darwin":
        name = _run("sysctl", "-n", "machdep.cpu.brand_string").strip()
        if name:
            return name
    return platform.processor() or platform.machine()


def _fallback_flags() -> tuple[str, ...]:
    if platform.system() != "Darwin":
        return ()
    present = set()
    for line in _run("sysctl", "hw.optional").splitlines():
        key, _, value = line.partition(":")
        if value.strip() == "1" and key.strip() in APPLE_FLAGS:
            present.add(APPLE_FLAGS[key.strip()])
    return tuple(flag for flag in RELEVANT_FLAGS if flag in present)


def _gpu() -> str | None:
    rows = _run("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    first = rows.strip().splitlines()[:1]
    if not first:
        return None
    name, _, driver = first[0].rpartition(",")
    return f"{name.strip()}, driver {driver.strip()}"


def jetson(root: Path = Path("/")) -> str | None:
    """Board and Linux release of an NVIDIA Jetson, None on any other machine.

    Its GPU is part of the chip. Before JetPack 6 there was no ``nvidia-smi`` that would name it.

    Args:
        root: where ``proc`` and ``etc`` lie.
    """
    board = _read(root / "proc/device-tree/model").strip("\0\n ")
    # "# R32 (release), REVISION: 7.1, GCID: ..., BOARD: t210ref, ..."; absent from containers.
    release = re.search(r"R(\d+) .*?REVISION: *([\d.]+)", _read(root / "etc/nv_tegra_release"))
    if release is None and not re.search("jetson|nvidia", board, re.IGNORECASE):
        return None
    linux = f", L4T {release.group(1)}.{release.group(2)}" if release else ""
    return f"{board or 'NVIDIA Jetson'}{linux}"


def _run(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@dataclass(frozen=True)
class NoiseLevel:
    """How much the same work varies on this machine right now.

    Attributes:
        spread_percent: robust relative spread of repeated blocks of the same work.
        steal_percent: share of CPU time that the hypervisor gave to other guests.
        note: one sentence for a person.
    """

    spread_percent: float
    steal_percent: float
    note: str


def noise_level(seconds: float = 1.5, clock: Callable[[], float] = time.perf_counter) -> NoiseLevel:
    """Repeat a fixed piece of CPU work for ``seconds`` and state how much its time varies."""
    before = steal_ticks(_read(Path("/proc/stat")))
    samples: list[float] = []
    end = clock() + seconds
    while len(samples) < MIN_NOISE_BLOCKS or clock() < end:
        start = clock()
        _fixed_work()
        samples.append(clock() - start)
    stolen, total = steal_ticks(_read(Path("/proc/stat")))
    elapsed = total - before[1]
    steal = 100 * (stolen - before[0]) / elapsed if elapsed > 0 else 0.0
    return noise_of(samples, steal)


def noise_of(samples_s: Sequence[float], steal_percent: float) -> NoiseLevel:
    """Judge repeated timings of the same work. Pure.

    The spread is 1.4826 times the median absolute deviation over the median, which single
    interruptions do not inflate.

    Raises:
        ValueError: there are no samples.
    """
    if not samples_s:
        raise ValueError("No samples to judge noise by; expected at least one timing in seconds.")
    middle = median(samples_s)
    deviation = median(abs(value - middle) for value in samples_s)
    spread = 100 * MAD_TO_SIGMA * deviation / middle if middle > 0 else 0.0
    return NoiseLevel(spread, steal_percent, _noise_note(spread, steal_percent))


def steal_ticks(stat: str) -> tuple[float, float]:
    """Stolen and total ticks in the first line of ``/proc/stat``; zeros where it is absent."""
    if not stat.startswith("cpu "):
        return 0.0, 0.0
    # user nice system idle iowait irq softirq steal; guest time is already part of user time.
    ticks = [float(value) for value in stat.splitlines()[0].split()[1:9]]
    return (ticks[7] if len(ticks) > 7 else 0.0), sum(ticks)


def _noise_note(spread: float, steal: float) -> str:
    if spread <= QUIET_PERCENT:
        text = f"quiet: the same work varies by {spread:.1f}%"
    elif spread <= NOISY_PERCENT:
        text = f"some noise: the same work varies by {spread:.1f}%, small gains need longer runs"
    else:
        text = f"noisy: the same work varies by {spread:.1f}%, only large differences can be told"
    if steal > STEAL_PERCENT:
        text += f"; other guests of this host take {steal:.1f}% of the CPU time"
    return text


def _fixed_work() -> int:
    # Pure integer work in the interpreter: no library that may start threads of its own.
    return sum(value * value for value in range(NOISE_BLOCK_ITERATIONS))
