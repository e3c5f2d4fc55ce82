"""Which candidates of a kit a bundle can run, and how."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from saccade.playbook.measured_bundle import runnable
from saccade.testing.tiny_models import SIZE, tiny_config

ENGINE = "and only the device's engine is in int8"


@pytest.mark.parametrize(
    ("runtime", "precision", "stored", "options"),
    [
        # TensorRT rounds the float file itself.
        ("tensorrt", "fp16", "fp32", "fp16"),
        ("onnxruntime-tensorrt", "fp16", "fp32", "fp16"),
        # ONNX Runtime's CUDA provider does what the file says.
        ("onnxruntime-cuda", "fp16", "fp16", "fp32"),
        ("onnxruntime", "fp32", "fp32", "fp32"),
        ("onnxruntime", "int8", "int8", "fp32"),
        ("openvino", "bf16", "fp32", "bf16"),
    ],
)
def test_a_winner_runs_in_a_bundle_as_on_the_device(
    tmp_path: Path, runtime: str, precision: str, stored: str, options: str
) -> None:
    config = tiny_config(tmp_path, (SIZE, SIZE))
    config = replace(config, model=replace(config.model, stored=stored))
    found = runnable(config, runtime, precision)
    assert found.config is not None, found.why_not
    assert (found.config.runtime, found.config.options.precision) == (runtime, options)
    assert found.config.model == config.model


@pytest.mark.parametrize(
    ("runtime", "precision", "stored", "reason"),
    [
        # Built from the kit's calibration cache: the float file alone would run in fp32.
        (
            "tensorrt",
            "int8",
            "fp32",
            "its file is in float, and only the device's engine is in int8",
        ),
        ("onnxruntime-cuda", "fp16", "fp32", "a pipeline has no fp16 in onnxruntime-cuda"),
        ("ncnn", "fp32", "fp32", "a pipeline runs no onnx file in ncnn"),
        ("edgetpu", "int8", "int8", "a pipeline has no runtime 'edgetpu'"),
    ],
)
def test_what_a_bundle_cannot_run_says_why(
    tmp_path: Path, runtime: str, precision: str, stored: str, reason: str
) -> None:
    config = tiny_config(tmp_path, (SIZE, SIZE))
    config = replace(config, model=replace(config.model, stored=stored))
    found = runnable(config, runtime, precision)
    assert found.config is None
    assert found.why_not == reason
