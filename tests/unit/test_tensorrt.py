"""What can be told about TensorRT without a GPU: what is asked of it, and what is said without."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_tensorrt import PREFIX, fake_tensorrt

from saccade import plugins
from saccade.errors import RuntimeFailure
from saccade.models.files import model_file
from saccade.pipeline.config import RuntimeOptions
from saccade.runtimes import tensorrt_cache, tensorrt_package
from saccade.runtimes import tensorrt_trtexec as trtexec
from saccade.runtimes.contract import SessionRequest
from saccade.runtimes.tensorrt import loaded_engine
from saccade.runtimes.tensorrt_cache import Builder, engine_path, keep, kept, timings_path
from saccade.runtimes.tensorrt_engine import build_engine, built_engine
from saccade.runtimes.tensorrt_settings import EngineSettings
from saccade.runtimes.tensorrt_trtexec import has_free_sides, trtexec_command
from saccade.testing.tiny_models import write_tiny

ON_GPUS = ("onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt")
HERE = Builder("10.3.0", "NVIDIA L4")
PROGRAM = '''#!{python}
"""Writes an engine as trtexec does, or fails as it does."""
import pathlib, sys
given = dict(a.partition("=")[::2] for a in sys.argv[1:])
if {fails!r}:
    sys.exit("[E] Error[4]: no kernel for the layer\\n&&&& FAILED")
said = "engine of trtexec " + " ".join(sys.argv[1:])
pathlib.Path(given["--saveEngine"]).write_bytes(said.encode())
'''


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and no trtexec."""
    monkeypatch.setenv(tensorrt_cache.FOLDER_VARIABLE, str(tmp_path / "engines"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(trtexec, "USUAL_PLACE", tmp_path / "none")
    return tmp_path / "engines"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny("onnx", tmp_path_factory.mktemp("model"), (64, 64))


def install(monkeypatch: pytest.MonkeyPatch, **facts: Any) -> Any:
    module = fake_tensorrt(**facts)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


def put_on_path(folder: Path, fails: bool = False) -> Path:
    program = folder / "bin" / "trtexec"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(python=sys.executable, fails=fails), encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def request_of(model: Path, precision: str = "fp32") -> SessionRequest:
    options = RuntimeOptions(precision=precision)  # type: ignore[arg-type]
    return SessionRequest(model_file(model), (64, 64), options, "images")


def builds(module: Any) -> int:
    return sum(entry[0] == "build" for entry in module.log)


@pytest.mark.parametrize("name", ON_GPUS)
def test_never_run_runtimes_say_so(name: str) -> None:
    found = plugins.load("runtimes", name).availability()
    assert "NVIDIA" in found.unverified
    assert found.devices == ("cuda",)
    assert found.ok or found.detail


def test_availability_says_who_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = plugins.load("runtimes", "tensorrt")
    monkeypatch.setattr("saccade.environment.detect", lambda: SimpleNamespace(gpu="NVIDIA L4"))
    monkeypatch.setattr(tensorrt_package, "installed_version", lambda: None)
    assert "trtexec" not in runtime.availability().detail
    program = put_on_path(tmp_path)
    found = runtime.availability()
    assert not found.ok
    assert f"{program} builds engines, and the package is what runs them" in found.detail
    monkeypatch.setattr(tensorrt_package, "installed_version", lambda: "10.3.0")
    found = runtime.availability()
    assert (found.ok, found.version) == (True, "10.3.0")
    assert f"built by the package, or by {program} where that fails" in found.detail


def test_version_11_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_package, "installed_version", lambda: "11.0.0")
    found = plugins.load("runtimes", "tensorrt").availability()
    assert not found.ok
    assert "tensorrt>=10,<11" in found.detail
    install(monkeypatch, version="11.0.0", flags=())
    with pytest.raises(RuntimeFailure, match="tensorrt>=10,<11"):
        tensorrt_package.load("Building an engine")


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
    assert shlex.join(command) == (
        "trtexec '--onnx=my model.onnx' --saveEngine=m.engine --skipInference "
        "--minShapes=images:1x3x32x64 --optShapes=images:1x3x64x96 --maxShapes=images:1x3x128x192 "
        "--fp16 --int8 --memPoolSize=workspace:1024 --timingCacheFile=kept.timings"
    )


def test_shapes_are_not_given_for_a_model_of_fixed_shape(model: Path) -> None:
    command = trtexec_command(
        Path("m.onnx"), Path("m.engine"), "images", EngineSettings((64, 64)), False
    )
    assert not any("Shapes" in word for word in command)
    assert not has_free_sides(model, "images")


def test_a_free_side_is_seen(tmp_path: Path) -> None:
    assert has_free_sides(write_tiny("onnx", tmp_path, None), "images")


def test_the_builder_is_asked_for_what_the_settings_say(
    model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install(monkeypatch, shape=(1, 3, -1, -1))
    settings = EngineSettings((64, 96), False, fp16=True, int8=True)
    assert build_engine(model, "images", settings) == PREFIX + b"FP16+INT8"
    assert ("profile", ("images", *settings.shapes)) in trt.log
    assert not hasattr(trt.config, "int8_calibrator")


def test_timings_are_kept_and_broken_ones_replaced(
    model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install(monkeypatch)
    settings = EngineSettings((64, 64), timing_cache=timings_path(HERE))
    for _ in range(2):
        build_engine(model, "images", settings)
    assert trt.log[-1] == ("build", (), b"timings+")
    timings_path(HERE).write_bytes(b"half a file")
    build_engine(model, "images", settings)
    assert trt.log[-1] == ("build", (), b"")
    assert timings_path(HERE).read_bytes() == b"timings+"


def test_foreign_errors_become_failures_of_the_runtime(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install(monkeypatch)
    trt.BuilderFlag = SimpleNamespace()  # as in TensorRT 11, whatever its version says
    with pytest.raises(RuntimeFailure, match=r"failed to build an engine: .*FP16"):
        build_engine(model, "images", EngineSettings((64, 64), fp16=True))


def test_what_cannot_be_built_is_said_with_the_command_to_look_closer(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, builds=False)
    with pytest.raises(RuntimeFailure, match=r"trtexec '--onnx=.*\.onnx' .*--verbose"):
        built_engine(model, "images", EngineSettings((64, 64)))


@pytest.mark.parametrize("facts", [{"builds": False}, {"refuses": "no importer for Odd"}])
def test_trtexec_builds_where_the_builder_fails(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any]
) -> None:
    install(monkeypatch, **facts)
    put_on_path(tmp_path)
    engine = built_engine(model, "images", EngineSettings((64, 64), fp16=True))
    assert engine.startswith(b"engine of trtexec ")
    assert b"--fp16" in engine


def test_trtexec_builds_where_the_package_has_no_builder(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install(monkeypatch)
    del trt.OnnxParser
    with pytest.raises(RuntimeFailure, match="has no builder"):
        built_engine(model, "images", EngineSettings((64, 64)))
    put_on_path(tmp_path)
    assert built_engine(model, "images", EngineSettings((64, 64))).startswith(b"engine of")


def test_where_both_fail_both_are_heard(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, refuses="no importer for Odd")
    put_on_path(tmp_path, fails=True)
    with pytest.raises(RuntimeFailure, match=r"no importer for Odd.*no kernel for the layer"):
        built_engine(model, "images", EngineSettings((64, 64)))


def test_trtexec_is_not_asked_to_calibrate(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, builds=False)
    put_on_path(tmp_path)
    samples = [np.zeros((1, 3, 64, 64), np.float32)]
    with pytest.raises(RuntimeFailure, match="built no engine"):
        built_engine(model, "images", EngineSettings((64, 64), int8=True), samples)


def test_an_engine_is_built_once(
    model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install(monkeypatch)
    for _ in range(2):
        assert loaded_engine(trt.Runtime(None), request_of(model), HERE) is not None
    assert builds(trt) == 1
    loaded_engine(trt.Runtime(None), request_of(model, "fp16"), HERE)
    assert builds(trt) == 2
    assert len(list(folder.glob("*.engine"))) == 2
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_kept_engine_that_is_refused_is_built_anew(
    model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install(monkeypatch)
    loaded_engine(trt.Runtime(None), request_of(model), HERE)
    (path,) = folder.glob("*.engine")
    path.write_bytes(b"of another driver")
    assert loaded_engine(trt.Runtime(None), request_of(model), HERE) is not None
    assert path.read_bytes().startswith(PREFIX)


def test_a_foreign_engine_file_is_refused_and_nothing_is_kept(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install(monkeypatch)
    path = tmp_path / "other.engine"
    path.write_bytes(b"of another GPU")
    with pytest.raises(RuntimeFailure, match="for another GPU"):
        loaded_engine(trt.Runtime(None), request_of(path), HERE)
    assert not folder.exists()


def test_every_part_of_the_key_counts(folder: Path) -> None:
    usual = EngineSettings((64, 64))
    variants = [
        ("sha", "images", usual, HERE),
        ("other", "images", usual, HERE),
        ("sha", "pixels", usual, HERE),
        ("sha", "images", EngineSettings((64, 96)), HERE),
        ("sha", "images", EngineSettings((64, 64), fixed=False), HERE),
        ("sha", "images", EngineSettings((64, 64), fp16=True), HERE),
        ("sha", "images", EngineSettings((64, 64), int8=True), HERE),
        ("sha", "images", usual, Builder("10.4.0", HERE.gpu)),
        ("sha", "images", usual, Builder(HERE.tensorrt, "NVIDIA A10G")),
    ]
    assert len({engine_path(*variant) for variant in variants}) == len(variants)
    timed = EngineSettings((64, 64), timing_cache=folder / "any")
    assert engine_path("sha", "images", timed, HERE) == engine_path(*variants[0])


def test_the_folder_is_the_users_cache_or_the_one_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tensorrt_cache.FOLDER_VARIABLE, "/elsewhere")
    assert tensorrt_cache.engines_folder() == Path("/elsewhere")
    monkeypatch.delenv(tensorrt_cache.FOLDER_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert tensorrt_cache.engines_folder() == Path("/cache/saccade/engines")
    monkeypatch.setenv(tensorrt_cache.FOLDER_VARIABLE, "off")
    place = engine_path("sha", "images", EngineSettings((64, 64)), HERE)
    keep(place, b"content")
    assert kept(place) is timings_path(HERE) is None


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    keep(tmp_path / "file" / "a.engine", b"content")
    assert kept(tmp_path / "file" / "a.engine") is None


def test_the_longest_unused_engines_make_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_cache, "LIMIT_BYTES", 25)
    for age, name in ((300, "old"), (200, "older-but-used"), (100, "young")):
        path = folder / f"saccade-{name}.engine"
        keep(path, b"0123456789" if name != "young" else b"01234")
        os.utime(path, (1e9 - age, 1e9 - age))
    (folder / "mine.engine").write_bytes(b"of the user's")
    keep(folder / "saccade-new.engine", b"0123456789")
    left = sorted(path.stem.removeprefix("saccade-") for path in folder.glob("*.engine"))
    assert left == ["mine", "new", "older-but-used", "young"]
