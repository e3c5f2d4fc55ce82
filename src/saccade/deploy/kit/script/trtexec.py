"""What the device's trtexec is called and which options its version has."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

# Where NVIDIA's Debian packages put it, which is on no PATH.
USUAL_PLACE = "/usr/src/tensorrt/bin/trtexec"
# Before TensorRT 8.4 the builder took 16 MB, too little for most convolutions' fast kernels.
WORKSPACE_MIB = 512


def trtexec_path() -> str:
    """Path of trtexec where TensorRT's Python package is missing; else empty."""
    if importlib.util.find_spec("tensorrt") is not None:
        return ""
    return shutil.which("trtexec") or (USUAL_PLACE if os.access(USUAL_PLACE, os.X_OK) else "")


def trtexec_help(tool: str) -> str:
    """What it says of itself and its options; empty where it does not start."""
    try:
        done = subprocess.run(
            [tool, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except OSError:
        return ""
    return done.stdout


def build_options(said: str) -> list[str]:
    """Options for building and not measuring: TensorRT 8.5 and older call that another name."""
    older = "--buildOnly" in said and "--skipInference" not in said
    options = ["--buildOnly" if older else "--skipInference"]
    if "--workspace" in said and "--memPoolSize" not in said:
        options.append(f"--workspace={WORKSPACE_MIB}")
    return options


def stamp_calibration(cache: Path, said: str) -> None:
    """Write the device's version into a calibration cache; any other would not be taken."""
    version = re.search(r"TensorRT v(\d+)", said)
    if version and cache.is_file():
        text = cache.read_text()
        cache.write_text(re.sub(r"^TRT-\d+-", f"TRT-{version.group(1)}-", text))
