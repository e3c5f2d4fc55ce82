"""What can be told about TensorRT without a GPU: what is asked for, and what is said without."""

from __future__ import annotations

from pathlib import Path

import pytest

from saccade import plugins
from saccade.runtimes.tensorrt_engine import EngineSettings, trtexec_command

ON_GPUS = ("onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt")


@pytest.mark.parametrize("name", ON_GPUS)
def test_never_run_runtimes_say_so(name: str) -> None:
    found = plugins.load("runtimes", name).availability()
    assert "NVIDIA" in found.unverified
    assert found.devices == ("cuda",)
    assert found.ok or found.detail


def test_a_fixed_engine_has_one_shape() -> None:
    assert EngineSettings((320, 640)).shapes == ((1, 3, 320, 640),) * 3


def test_a_dynamic_engine_spans_half_to_twice_in_whole_strides() -> None:
    low, usual, high = EngineSettings((416, 640), fixed=False).shapes
    assert (low, usual, high) == ((1, 3, 192, 320), (1, 3, 416, 640), (1, 3, 832, 1280))


def test_the_command_builds_the_same_engine() -> None:
    settings = EngineSettings(
        (64, 96), fixed=False, fp16=True, int8=True, timing_cache=Path("kept.timings")
    )
    command = trtexec_command(Path("my model.onnx"), Path("m.engine"), "images", settings, True)
    assert command == (
        "trtexec '--onnx=my model.onnx' --saveEngine=m.engine --minShapes=images:1x3x32x64 "
        "--optShapes=images:1x3x64x96 --maxShapes=images:1x3x128x192 --fp16 --int8 "
        "--timingCacheFile=kept.timings"
    )


def test_shapes_are_not_given_for_a_model_of_fixed_shape() -> None:
    command = trtexec_command(
        Path("m.onnx"), Path("m.engine"), "images", EngineSettings((64, 64)), False
    )
    assert "Shapes" not in command
