"""The kit's script with TensorRT of several versions, each a stand-in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_tensorrt import SHAPE, FakeCuda, fake_tensorrt

from saccade.deploy.kit.script import gpu, trtexec
from saccade.deploy.kit.script.runtimes import Skipped
from saccade.deploy.kit.script.tensors import numpy_type
from saccade.deploy.kit.script.trtexec import (
    WORKSPACE_MIB,
    build_options,
    stamp_calibration,
    trtexec_help,
    trtexec_path,
)

FP16 = {"id": "onnx@tensorrt-fp16", "flags": ["--fp16"]}
# What `trtexec --help` lists, of TensorRT 8.2 and of 10.
OLD_HELP = """&&&& RUNNING TensorRT.trtexec [TensorRT v8201] # trtexec --help
  --workspace=N               Set workspace size in MiB.
  --buildOnly                 Skip inference perf measurement (default = disabled)
"""
NEW_HELP = """&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # trtexec --help
  --memPoolSize=poolspec      Specify the size constraints of the designated memory pool(s)
  --skipInference             Exit after the engine has been built
"""


@pytest.fixture
def cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    library = FakeCuda()
    monkeypatch.setattr(gpu, "_cuda_library", lambda: library)
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"model")
    return library


@pytest.mark.parametrize(
    "facts",
    [
        {"version": "8.2.1", "named": False, "workspace_pools": False},
        {"version": "8.4.1", "named": False},
        {"version": "10.3.0"},
    ],
    ids=lambda facts: facts["version"],
)
def test_every_version_builds_and_runs(
    facts: dict[str, Any], cuda: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = fake_tensorrt(**facts)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    runtime = gpu.TensorRt(FP16, [tmp_path / "model.onnx"], 0)
    assert runtime.version == f"tensorrt {facts['version']}"
    for value in (1.0, 3.0):
        frame = np.full(SHAPE, value, np.float32)
        (output,) = runtime.run(frame)
        np.testing.assert_array_equal(output, 2 * frame)
    assert len(cuda.held) == 2  # memory is taken once
    assert trt.log == [("build", ("FP16",), None)]
    asked = getattr(trt.config, "max_workspace_size", None)
    assert asked == (None if trt.workspace_pools else WORKSPACE_MIB << 20)
    gpu.TensorRt(FP16, [tmp_path / "model.onnx"], 0)
    assert len(trt.log) == 1  # the engine on disk is used again


def test_a_version_without_precisions_skips_the_candidate(
    cuda: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt("11.0.0", flags=()))
    with pytest.raises(Skipped, match=r"TensorRT 11\.0\.0 has no flag for fp16"):
        gpu.TensorRt(FP16, [tmp_path / "model.onnx"], 0)


def test_an_engine_of_another_version_is_named(
    cuda: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt())
    path = gpu.engine_file(FP16)
    path.parent.mkdir()
    path.write_bytes(b"of another version")
    with pytest.raises(RuntimeError, match="delete it"):
        gpu.TensorRt(FP16, [tmp_path / "model.onnx"], 0)


def test_a_type_that_numpy_lacks_is_named() -> None:
    assert numpy_type("DataType.HALF") is np.float16
    with pytest.raises(RuntimeError, match="BF16"):
        numpy_type("DataType.BF16")


def test_the_options_are_those_of_the_version() -> None:
    assert build_options(OLD_HELP) == ["--buildOnly", f"--workspace={WORKSPACE_MIB}"]
    assert build_options(NEW_HELP) == ["--skipInference"]
    assert build_options("") == ["--skipInference"]


def test_the_calibration_cache_gets_the_devices_version(tmp_path: Path) -> None:
    cache = tmp_path / "calibration.cache"
    cache.write_text("TRT-0000-EntropyCalibration2\nTRT-1-: 3caa54fc\n")
    for said, version in ((OLD_HELP, "8201"), (NEW_HELP, "100300")):
        stamp_calibration(cache, said)
        lines = cache.read_text().splitlines()
        assert lines == [f"TRT-{version}-EntropyCalibration2", "TRT-1-: 3caa54fc"]


def test_trtexec_is_found_only_where_the_package_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(trtexec, "USUAL_PLACE", str(tmp_path / "usual"))
    monkeypatch.setattr(trtexec.importlib.util, "find_spec", lambda name: None)
    assert trtexec_path() == ""
    (tmp_path / "usual").write_text("#!/bin/sh\n")
    (tmp_path / "usual").chmod(0o755)
    assert trtexec_path() == str(tmp_path / "usual")
    (tmp_path / "trtexec").write_text("#!/bin/sh\necho options\n")
    (tmp_path / "trtexec").chmod(0o755)
    assert trtexec_path() == str(tmp_path / "trtexec")
    monkeypatch.setattr(trtexec.importlib.util, "find_spec", lambda name: object())
    assert trtexec_path() == ""


def test_a_program_that_does_not_start_says_nothing(tmp_path: Path) -> None:
    assert trtexec_help(str(tmp_path / "absent")) == ""
