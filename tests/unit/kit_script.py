"""A kit's script, run as a device would run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REFERENCE = "onnx@onnxruntime-fp32"


def run_script(kit: Path, out: Path, *arguments: str) -> str:
    """Run the kit's script as a device would: without saccade on its path."""
    command = [sys.executable, "-I", str(kit / "measure.py"), "--out", str(out), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return done.stderr
