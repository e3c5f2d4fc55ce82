"""What the device is and how it does."""

from __future__ import annotations

import glob
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

# Files of Linux that tell what a device is and how it does: read where they are there.
FACTS = {
    "device": "/proc/device-tree/model",
    "jetson": "/etc/nv_tegra_release",
    "governor": "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
}


def environment() -> dict[str, Any]:
    """What this device is, as far as it tells."""
    facts = {name: _text(path) for name, path in FACTS.items()}
    cpu = [line.partition(":")[2].strip() for line in _text("/proc/cpuinfo").splitlines()]
    names = [
        line.partition(":")[2].strip()
        for line in _text("/proc/cpuinfo").splitlines()
        if line.startswith(("model name", "Model", "Hardware", "CPU part"))
    ]
    memory = _text("/proc/meminfo").split()
    return {
        **{name: value for name, value in facts.items() if value},
        "cpu_model": names[0] if names else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else len(cpu),
        "memory_mb": int(memory[1]) * 1.024e-3 if memory[:1] == ["MemTotal:"] else None,
        "gpu": _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"),
        "power_mode": _output("nvpmodel", "-q"),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def sensors() -> dict[str, Any]:
    """Temperatures and the clock of the first core, now."""
    zones = sorted(glob.glob("/sys/class/thermal/thermal_zone*/temp"))
    clock = _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    return {
        "celsius": [int(value) / 1e3 for value in map(_text, zones) if value.lstrip("-").isdigit()],
        "mhz": int(clock) / 1e3 if clock.isdigit() else None,
    }


def _text(path: str) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8", "replace").strip("\0\n ")
    except OSError:
        return ""


def _output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=10, text=True, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
