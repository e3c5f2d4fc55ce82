"""The rivals' own virtual environment, so that their dependencies stay out of saccade's."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.setting import note

HERE = Path(__file__).resolve().parent
VENV = HERE / ".rivals-venv"
PYTHON = VENV / "bin" / "python"
STAND_IN = VENV / "stand_in"
# In this order. The rival itself comes without its dependencies, because it asks for a
# torchvision and an OpenCV with windows that it does not need for this.
STEPS: tuple[tuple[str, ...], ...] = (
    ("torch==2.13.0",),
    ("--no-deps", "torchvision==0.28.0", "ultralytics==8.4.190", "ultralytics-thop==2.2.3"),
    (
        "matplotlib",
        "opencv-python-headless==5.0.0.93",
        "pillow",
        "pyyaml",
        "requests",
        "psutil",
        "polars",
        "onnx==1.23.2",
        "onnxruntime==1.32.0",
        "openvino==2026.4.1",
        "nncf==3.4.0",
    ),
)


def install() -> None:
    """Make the environment where it is not there yet.

    Raises:
        subprocess.CalledProcessError: pip failed.
    """
    stamp = VENV / "stamp"
    stand_in = HERE / "torchvision_stand_in.py"
    wanted = hashlib.sha256(repr(STEPS).encode() + stand_in.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    note("installing the rivals (torch, ultralytics) into benchmarks/.rivals-venv")
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    pip = (str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    for step in STEPS:
        subprocess.run([*pip, *step], check=True, stdout=sys.stderr)
    _provide_torchvision(stand_in)
    stamp.write_text(wanted, encoding="utf-8")


def _provide_torchvision(stand_in: Path) -> None:
    """Keep the real torchvision where it imports, else put the stand-in before it."""
    shutil.rmtree(STAND_IN, ignore_errors=True)
    tried = subprocess.run([str(PYTHON), "-c", "import torchvision"], capture_output=True)
    if tried.returncode != 0:
        STAND_IN.mkdir()
        shutil.copyfile(stand_in, STAND_IN / "torchvision.py")


def environment(settings: Path) -> dict[str, str]:
    """Environment variables for processes of the rivals; their settings go to ``settings``."""
    settings.mkdir(parents=True, exist_ok=True)
    changed = {"YOLO_CONFIG_DIR": str(settings), "YOLO_AUTOINSTALL": "false"}
    if STAND_IN.is_dir():
        changed["PYTHONPATH"] = str(STAND_IN)
    return {**os.environ, **changed}


def declaration() -> str:
    """What a reader must know about the rival's installation."""
    what = STEPS[1][2].replace("==", " ")
    if STAND_IN.is_dir():
        return f"{what} on a CPU-only torch, torchvision's NMS replaced by OpenCV's"
    return what
