"""ONNX Runtime: its distributions, its bindings on host and device, and its graph levels."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from saccade.errors import RuntimeFailure
from saccade.models.files import model_file
from saccade.optimize.change import PlanContext
from saccade.optimize.changes.graph_optimization import OptimizeGraph
from saccade.pipeline.config import RuntimeOptions
from saccade.pipeline.sessions import SessionPool
from saccade.runtimes import onnxruntime as module
from saccade.runtimes import onnxruntime_gpu as gpu
from saccade.runtimes import tensorrt_cache
from saccade.runtimes.contract import OperatorTime, SessionRequest
from saccade.runtimes.onnxruntime import OnnxRuntime, OnnxRuntimeSession, Provider
from saccade.runtimes.ort_binding import DeviceBinding, HostBinding
from saccade.testing.example_contexts import example_contexts
from saccade.testing.optimization_conformance import CHECKS, Check
from saccade.testing.runtime_conformance import HW, tensor
from saccade.testing.tiny_models import reference, tiny_detector, write_tiny
from saccade.testing.tiny_yolo import HW as TINY_YOLO_HW
from saccade.testing.tiny_yolo import tiny_yolo_config

# Which build is installed


def test_one_that_is_gone_comes_back_with_saccade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    model = model_file(write_tiny("onnx", tmp_path, HW))
    with pytest.raises(RuntimeFailure, match=r"comes with saccade.*Install saccade again"):
        OnnxRuntimeSession(SessionRequest(model, HW, RuntimeOptions(), "images"))


def only(monkeypatch: pytest.MonkeyPatch, installed: dict[str, str]) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(module, "version", version)


def test_the_gpu_build_serves_the_cpu_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, {"onnxruntime-gpu": "1.99"})
    found = OnnxRuntime.availability()
    assert (found.ok, found.version) == (True, "1.99")


def test_a_build_of_another_name_says_its_version_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, {})
    assert OnnxRuntime.availability().version == onnxruntime.__version__
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = OnnxRuntime.availability()
    assert (found.ok, found.detail) == (False, "not installed")


# Binding


@pytest.fixture
def session(tmp_path: Path) -> Iterator[OnnxRuntimeSession]:
    request = SessionRequest(
        model_file(write_tiny("onnx", tmp_path, HW)), HW, RuntimeOptions(in_flight=3), "images"
    )
    opened = OnnxRuntimeSession(request)
    yield opened
    opened.close()


def test_outputs_of_fixed_shape_are_written_over(session: OnnxRuntimeSession) -> None:
    first = session.infer(tensor(1))[0]
    second = session.infer(tensor(2))[0]
    assert np.shares_memory(first, second)
    assert np.allclose(second, reference(tensor(2)), atol=1e-3)


def test_each_request_in_flight_has_outputs_of_its_own(session: OnnxRuntimeSession) -> None:
    for _ in range(3):  # the second time round the places are bound
        tickets = [session.submit(tensor(seed)) for seed in range(3)]
        outputs = [session.collect(ticket)[0] for ticket in tickets]
        alone = session.infer(tensor(9))[0]
        assert not any(np.shares_memory(alone, output) for output in outputs)
        for seed, output in enumerate(outputs):
            assert np.allclose(output, reference(tensor(seed)), atol=1e-3)
        for ticket in tickets:
            session.release(ticket)


def test_a_buffer_that_is_not_contiguous_is_read_right(session: OnnxRuntimeSession) -> None:
    session.infer(tensor(1))
    turned = np.asfortranarray(tensor(2))
    assert np.allclose(session.infer(turned)[0], reference(tensor(2)), atol=1e-3)


def opened(model: onnx.ModelProto) -> Any:
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def test_open_shapes_give_new_arrays() -> None:
    binding = HostBinding(onnxruntime, opened(tiny_detector()))
    first, second = binding.run(tensor(1))[0], binding.run(tensor(1, (32, 64)))[0]
    assert not np.shares_memory(first, second)
    assert np.allclose(second, reference(tensor(1, (32, 64))), atol=1e-3)


class Untrue:
    """A session whose bound run fails, as where a stated shape is not the true one."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.bound = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def run_with_iobinding(self, _: Any) -> None:
        self.bound += 1
        raise RuntimeError("OrtValue shape verification failed")


def test_a_graph_that_states_untrue_shapes_runs_unbound() -> None:
    session = Untrue(opened(tiny_detector(HW)))
    binding = HostBinding(onnxruntime, session)
    for seed in range(4):
        assert np.allclose(binding.run(tensor(seed))[0], reference(tensor(seed)), atol=1e-3)
    assert session.bound == 1


def test_a_wrong_input_leaves_the_binding() -> None:
    binding = HostBinding(onnxruntime, opened(tiny_detector(HW)))
    first = binding.run(tensor(1))[0]
    with pytest.raises(Exception, match="data type"):
        binding.run(tensor(1).astype(np.float64))
    assert np.shares_memory(binding.run(tensor(2))[0], first)


class DeviceValue:
    """An ``OrtValue`` in the memory of a device that is not here."""

    copies = 0

    def __init__(self, values: NDArray[Any], device: str, index: int) -> None:
        self.place = (device, index)
        self.update_inplace(values)

    def update_inplace(self, values: NDArray[Any]) -> None:
        DeviceValue.copies += 1
        self.values = values.copy()


class DeviceSession:
    """Runs on the CPU what was bound to a device, and says what was bound where."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.outputs: dict[str, tuple[str, int]] = {}
        self.image: Any = None
        self.places = 0

    def get_inputs(self) -> Any:
        return self._real.get_inputs()

    def get_outputs(self) -> Any:
        return self._real.get_outputs()

    def io_binding(self) -> Any:
        return SimpleNamespace(
            bind_output=lambda name, device, index: self.outputs.update({name: (device, index)}),
            bind_ortvalue_input=self._bind_input,
            copy_outputs_to_cpu=lambda: self._found,
        )

    def _bind_input(self, name: str, value: DeviceValue) -> None:
        assert name == "images" and value.place == ("cuda", 1)
        self.image, self.places = value, self.places + 1

    def run_with_iobinding(self, _: Any) -> None:
        self._found = self._real.run(None, {"images": self.image.values})


def on_device(device: Callable[..., Any] = DeviceValue) -> tuple[DeviceBinding, DeviceSession]:
    session = DeviceSession(opened(tiny_detector()))
    ort = SimpleNamespace(OrtValue=SimpleNamespace(ortvalue_from_numpy=device))
    return DeviceBinding(ort, session, "cuda", 1), session


def test_a_device_keeps_the_place_of_the_image_and_the_outputs() -> None:
    binding, session = on_device()
    assert list(session.outputs.values()) == [("cuda", 1)]
    before = DeviceValue.copies
    for seed in range(3):
        found = binding.run(np.asfortranarray(tensor(seed)))[0]
        assert np.allclose(found, reference(tensor(seed)), atol=1e-3)
    assert DeviceValue.copies - before == 3 and session.places == 1
    smaller = tensor(4, (32, 64))
    assert np.allclose(binding.run(smaller)[0], reference(smaller), atol=1e-3)
    assert session.places == 2


def test_an_input_that_a_device_refuses_leaves_the_next_one_right() -> None:
    binding, _ = on_device()
    binding.run(tensor(1))
    with pytest.raises(Exception, match=r"dimensions|rank"):
        binding.run(tensor(1)[0])
    assert np.allclose(binding.run(tensor(2))[0], reference(tensor(2)), atol=1e-3)


@pytest.mark.parametrize("name", ["OnnxRuntimeCuda", "OnnxRuntimeTensorRt"])
def test_the_gpus_providers_bind_on_the_gpu(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(tensorrt_cache.FOLDER_VARIABLE, "off")
    seen: list[Provider] = []
    monkeypatch.setattr(gpu, "_check_installed", lambda: None)
    monkeypatch.setattr(gpu, "OnnxRuntimeSession", lambda _, provider: seen.append(provider))
    model = model_file(write_tiny("onnx", tmp_path, HW))
    getattr(gpu, name).open(SessionRequest(model, HW, RuntimeOptions(), "images"))
    session = DeviceSession(opened(tiny_detector()))
    binding = seen[0].binding(onnxruntime, session)
    assert isinstance(binding, DeviceBinding)
    assert set(session.outputs.values()) == {("cuda", 0)}


def test_engines_of_the_provider_are_kept_with_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[Provider] = []
    monkeypatch.setattr(gpu, "_check_installed", lambda: None)
    monkeypatch.setattr(gpu, "OnnxRuntimeSession", lambda _, provider: seen.append(provider))
    model = model_file(write_tiny("onnx", tmp_path, HW))
    for said in (str(tmp_path / "engines"), "off"):
        monkeypatch.setenv(tensorrt_cache.FOLDER_VARIABLE, said)
        gpu.OnnxRuntimeTensorRt.open(SessionRequest(model, HW, RuntimeOptions(), "images"))
    kept, off = seen
    assert kept.settings["trt_engine_cache_path"] == str(tmp_path / "engines")
    assert model.sha256[:16] in kept.settings["trt_engine_cache_prefix"]
    assert not [name for name in off.settings if "cache" in name]
    assert (tmp_path / "engines").is_dir() and not Path("off").exists()


# What the file says


@pytest.mark.parametrize(("nms", "hw"), [("loop", (64, 64)), ("graph", TINY_YOLO_HW)])
def test_a_rewritten_int8_file_counts_as_int8(
    nms: str, hw: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disabled: list[Any] = []
    real = onnxruntime.InferenceSession

    def opened(*given: Any, disabled_optimizers: Any = None, **settings: Any) -> Any:
        disabled.append(disabled_optimizers)
        return real(*given, **settings)

    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    base = tiny_yolo_config(tmp_path)
    config = replace(base, model=replace(base.model, stored="int8"), nms=nms)
    with closing(SessionPool(config, in_graph=False)) as pool:
        session = pool.stream(hw)
        assert isinstance(session, OnnxRuntimeSession)
        assert session._request.model.path != config.model.path
    assert disabled[-1] == list(module.HARMFUL)


# Graph levels


def test_levels_are_the_runtimes_own(tmp_path: Path) -> None:
    for level, number in (("basic", 1), ("static_basic", 1), ("static_extended", 2)):
        request = SessionRequest(
            model_file(write_tiny("onnx", tmp_path, None)),
            HW,
            RuntimeOptions(graph_level=level),
            "images",
        )
        session = OnnxRuntimeSession(request)
        options = session._session.get_session_options()
        assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel(number)
        shape = session._session.get_inputs()[0].shape
        assert (shape[2:] == list(HW)) == level.startswith("static")
        session.close()


@pytest.fixture
def context(tmp_path: Path) -> PlanContext:
    """A profile in which every level has something to leave out."""
    times = (
        OperatorTime("a", "Conv", 5.0),
        OperatorTime("b", "ReorderInput", 2.0),
        OperatorTime("c", "FusedConv", 4.0),
    )
    base = next(example_contexts(tmp_path))
    return replace(base, profile=replace(base.profile, operators=times))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_level_keeps_the_contract(check: Check, context: PlanContext) -> None:
    assert all(change.applies(context) is None for change in OptimizeGraph.variants(context))
    check(OptimizeGraph, context)


def test_levels_are_tried_where_the_profile_speaks_for_them(context: PlanContext) -> None:
    extended, basic = OptimizeGraph("extended"), OptimizeGraph("basic")
    plain = replace(context, profile=replace(context.profile, operators=()))
    assert "reorders" in str(extended.applies(plain))
    assert "fused" in str(basic.applies(plain))
    fixed = replace(context, config=OptimizeGraph("all").apply(context))
    lower = extended.apply(fixed)
    assert lower.options.graph_level == "static_extended"
    after = replace(fixed, config=lower)
    assert basic.apply(after).options.graph_level == "static_basic"
    assert OptimizeGraph("all").applies(after) == "already in use"
    assert "less already" in str(extended.applies(replace(after, config=basic.apply(after))))
    assert extended.predict(context).bound > basic.predict(context).bound > 1


def test_another_runtime_has_no_levels(context: PlanContext) -> None:
    elsewhere = replace(context, config=replace(context.config, runtime="openvino"))
    assert all("openvino" in str(c.applies(elsewhere)) for c in OptimizeGraph.variants(elsewhere))


def test_a_session_that_was_closed_says_so(session: OnnxRuntimeSession) -> None:
    kept = session.infer(tensor(3))[0]
    session.close()
    assert np.allclose(kept, reference(tensor(3)), atol=1e-3)
    with pytest.raises(RuntimeFailure, match="closed"):
        session.infer(tensor(3))
