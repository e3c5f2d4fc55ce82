"""Olive's own virtual environment, so that its dependencies stay out of saccade's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.setting import note

VENV = Path(__file__).resolve().parent / ".olive-venv"
PYTHON = VENV / "bin" / "python"
PACKAGES = ("olive-ai==0.13.0", "onnxruntime==1.32.0", "requests", "torchmetrics")


def install() -> None:
    """Make the environment where it is not there yet.

    Raises:
        subprocess.CalledProcessError: pip failed.
    """
    stamp = VENV / "stamp"
    wanted = " ".join(PACKAGES)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    note("installing Olive into benchmarks/.olive-venv")
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    pip = (str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    subprocess.run([*pip, *PACKAGES], check=True, stdout=sys.stderr)
    stamp.write_text(wanted, encoding="utf-8")
