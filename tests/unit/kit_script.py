"""Kits for tests, and their script, run as a device would run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from command_line import Inputs

from saccade.playbook.partial import export_kit
from saccade.spec import make_spec

REFERENCE = "onnx@onnxruntime-fp32"


def run_script(kit: Path, out: Path, *arguments: str) -> str:
    """Run the kit's script as a device would: without saccade on its path."""
    command = [sys.executable, "-I", str(kit / "measure.py"), "--out", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return done.stderr


def jetson_kit(inputs: Inputs, folder: Path) -> Path:
    """A kit for a device with TensorRT, which this machine is not."""
    given = {"model": str(inputs.model), "data": str(inputs.data)}
    export_kit(make_spec({**given, "target": "jetson-orin-nano"}), folder / "kit")
    return folder / "kit"
