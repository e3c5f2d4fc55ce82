"""PyTorch on GPUs, as far as it can be told without one: the CPU stands for the device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saccade import plugins
from saccade.errors import RuntimeFailure
from saccade.models.description import Preprocessing
from saccade.models.files import model_file
from saccade.optimize.change import PlanContext
from saccade.optimize.changes.runtime import SwitchRuntime
from saccade.optimize.changes.torch_execution import ON_GPUS, ExecuteTorch
from saccade.pipeline.config import RuntimeOptions
from saccade.runtimes.contract import Availability, Session, SessionRequest
from saccade.testing.example_contexts import example_contexts
from saccade.testing.runtime_conformance import CHECKS, HW, Check, tensor
from saccade.testing.tiny_models import reference, tiny_config, write_tiny
from saccade.testing.tiny_torch import HW as NET_HW
from saccade.testing.tiny_torch import exported, residual_net

torch = pytest.importorskip("torch")
from saccade.models.torch_nms import read_suppressing, suppressed, with_nms  # noqa: E402
from saccade.runtimes import torch_lanes  # noqa: E402
from saccade.runtimes.torch_cuda import MOST_LANES, DeviceSession, TorchCuda  # noqa: E402
from saccade.runtimes.torch_device import CudaDevice, HostDevice  # noqa: E402
from saccade.runtimes.torch_precision import store_halved  # noqa: E402


class Stream:
    """Knows what it was told; work on it is done at once."""

    def __init__(self, log: list[Any]) -> None:
        self.number = sum(entry[0] == "stream" for entry in log)
        self._log = log
        log.append(("stream", self.number))

    def wait_event(self, event: Event) -> None:
        self._log.append(("after", self.number, event.number))

    def synchronize(self) -> None:
        self._log.append(("settled", self.number))


class Event:
    def __init__(self, log: list[Any], blocking: bool) -> None:
        self.number = -1
        self.blocking = blocking
        self._log = log

    def record(self, stream: Stream) -> None:
        self.number = sum(entry[0] == "mark" for entry in self._log)
        self._log.append(("mark", stream.number, self.number))

    def synchronize(self) -> None:
        self._log.append(("wait", self.number))


class Graph:
    """Plays by computing again into the outputs' memory, as a graph does."""

    recording: Graph | None = None

    def __init__(self) -> None:
        self.compute: Callable[[], list[Any]] | None = None
        self.outputs: list[Any] = []

    def replay(self) -> None:
        assert self.compute is not None
        Graph.recording, kept = None, self.outputs
        for output, new in zip(kept, self.compute(), strict=True):
            output.copy_(new)
        self.outputs = kept


class Gpu:
    """Stands in for ``torch.cuda``; the tensors are the CPU's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[Any] = []
        self._current: list[int] = []
        cuda, empty = torch.cuda, torch.empty
        monkeypatch.setattr(cuda, "Stream", lambda: Stream(self.log))
        monkeypatch.setattr(cuda, "Event", lambda blocking: Event(self.log, blocking))
        monkeypatch.setattr(cuda, "stream", self._on)
        monkeypatch.setattr(cuda, "synchronize", lambda: self.log.append(("settled",)))
        monkeypatch.setattr(cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(cuda, "graph", self._capture)

        def pinned(*shape: Any, pin_memory: bool = False, **settings: Any) -> Any:
            if pin_memory:
                self.log.append(("pinned",))
            return empty(*shape, **settings)

        monkeypatch.setattr(torch, "empty", pinned)

    @contextlib.contextmanager
    def _on(self, stream: Stream) -> Iterator[None]:
        self._current.append(stream.number)
        yield
        self._current.pop()

    @contextlib.contextmanager
    def _capture(self, graph: Graph, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        self.log.append(("capture", stream.number))
        with self._on(stream):
            Graph.recording = graph
            yield
            assert Graph.recording is None, "nothing was computed while it was recorded"

    def computed(self, compute: Any, image: Any) -> list[Any]:
        """Computes, saying where; a graph remembers what it saw computed."""
        graph, Graph.recording = Graph.recording, None
        self.log.append(("compute", self._current[-1] if self._current else None))
        outputs: list[Any] = compute(image)
        if graph is not None:
            graph.compute, graph.outputs = (lambda: self.computed(compute, image)), outputs
        return outputs


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    made, compute = Gpu(monkeypatch), DeviceSession._compute

    def logged(session: DeviceSession, image: Any) -> list[Any]:
        return made.computed(lambda value: compute(session, value), image)

    monkeypatch.setattr(DeviceSession, "_compute", logged)
    return made


def on_gpu(request: SessionRequest) -> DeviceSession:
    return DeviceSession(request, CudaDevice(True, spinning=False, name="cpu"))


def request_of(
    folder: Path, options: RuntimeOptions | None = None, **fields: Any
) -> SessionRequest:
    path = write_tiny("torch_export", folder, fields.pop("model_hw", None))
    fields = {"input_hw": HW, "input_name": "images", **fields}
    return SessionRequest(model_file(path), options=options or RuntimeOptions(), **fields)


class OnTheCpu(TorchCuda):
    """The same sessions, with the CPU as their device."""

    @staticmethod
    def availability() -> Availability:
        return replace(TorchCuda.availability(), ok=True, version="1")

    @staticmethod
    def open(request: SessionRequest) -> Session:
        return DeviceSession(request, HostDevice())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_contract_is_kept(check: Check, tmp_path: Path) -> None:
    check(OnTheCpu, tmp_path)


@pytest.mark.parametrize("level", ["default", "cuda_graph"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_contract_is_kept_with_streams(
    check: Check, level: str, gpu: Gpu, tmp_path: Path
) -> None:
    class Streaming(OnTheCpu):
        @staticmethod
        def open(request: SessionRequest) -> Session:
            options = replace(request.options, graph_level=level)
            return on_gpu(replace(request, options=options))

    check(Streaming, tmp_path)


def test_without_a_gpu_it_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    found = plugins.load("runtimes", "torch-cuda").availability()
    assert not found.ok
    assert found.devices == ("cuda",)
    assert "torch_export" in found.formats
    assert "NVIDIA" in found.unverified
    with pytest.raises(RuntimeFailure, match="finds no GPU"):
        TorchCuda.open(SessionRequest(None, None, RuntimeOptions(), "images"))  # type: ignore[arg-type]


def test_copies_wait_for_nothing_but_their_own_request(gpu: Gpu, tmp_path: Path) -> None:
    session = on_gpu(request_of(tmp_path, RuntimeOptions(in_flight=2)))
    gpu.log.clear()
    images = [tensor(1), tensor(2)]
    tickets = [session.submit(image) for image in images]
    first, second = (
        [entry for entry in part if entry[0] != "pinned"]
        for part in (gpu.log[: len(gpu.log) // 2], gpu.log[len(gpu.log) // 2 :])
    )
    assert not [entry for entry in gpu.log if entry[0] in ("wait", "settled")], "submit waited"
    copies = []
    for started in (first, second):
        (_, copying, there), (_, lane, awaited), computed, (_, marked, done), back, end = started
        assert awaited == there, "the computation began before its input was there"
        assert computed == ("compute", lane)
        assert marked == lane
        assert back == ("after", copying, done), "the output was fetched before it was there"
        assert end[:2] == ("mark", copying)
        assert copying != lane
        copies.append(copying)
    assert len(set(copies)) == 2, "the copies of both requests share a stream"
    for image, ticket, started in zip(images, tickets, (first, second), strict=True):
        np.testing.assert_allclose(session.collect(ticket)[0], reference(image), atol=1e-4)
        assert gpu.log[-1] == ("wait", started[-1][2])
        session.release(ticket)
    session.close()


def test_pinned_memory_is_used_again(gpu: Gpu, tmp_path: Path) -> None:
    session = on_gpu(request_of(tmp_path))
    for seed in range(3):
        session.infer(tensor(seed))
    assert gpu.log.count(("pinned",)) == 2  # one input, one output
    session.close()


def test_a_ticket_that_was_not_collected_is_waited_for(gpu: Gpu, tmp_path: Path) -> None:
    session = on_gpu(request_of(tmp_path))
    session.release(session.submit(tensor(1)))
    assert gpu.log[-1][0] == "wait"
    session.close()


def test_streams_are_lanes(gpu: Gpu, tmp_path: Path) -> None:
    for streams in (2, 16):
        session = on_gpu(request_of(tmp_path, RuntimeOptions(streams=streams, in_flight=9)))
        gpu.log.clear()
        tickets = [session.submit(tensor(seed)) for seed in range(9)]
        lanes = [entry[1] for entry in gpu.log if entry[0] == "compute"]
        assert len(set(lanes)) == min(streams, MOST_LANES)
        for ticket in tickets:
            session.collect(ticket)
            session.release(ticket)
        session.close()


def test_graphs_are_recorded_once_per_shape(
    gpu: Gpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_lanes, "KEPT_GRAPHS", 2)
    options = RuntimeOptions(graph_level="cuda_graph", in_flight=2)
    session = on_gpu(request_of(tmp_path, options, input_hw=None))
    recorded = []
    for hw in ((64, 64), (32, 64), (64, 64), (64, 96), (32, 64)):
        image = tensor(1, hw)
        before = sum(entry[0] == "capture" for entry in gpu.log)
        np.testing.assert_allclose(session.infer(image)[0], reference(image), atol=1e-4)
        recorded.append(sum(entry[0] == "capture" for entry in gpu.log) - before)
    # The last was dropped for the fourth, because the first had been used since.
    assert recorded == [1, 1, 0, 1, 1]
    session.close()


def test_a_fixed_shape_is_recorded_when_the_session_opens(gpu: Gpu, tmp_path: Path) -> None:
    options = RuntimeOptions(graph_level="cuda_graph", streams=2)
    pre = Preprocessing()
    session = on_gpu(request_of(tmp_path, options, graph_preprocessing=pre))
    assert sum(entry[0] == "capture" for entry in gpu.log) == 2
    pixels = np.random.default_rng(0).integers(0, 256, (1, *HW, 3), np.uint8)
    expected = reference(pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    np.testing.assert_allclose(session.infer(pixels)[0], expected, atol=1e-4)
    assert sum(entry[0] == "capture" for entry in gpu.log) == 2
    session.close()


def test_what_cannot_be_recorded_is_refused(tmp_path: Path) -> None:
    options = RuntimeOptions(graph_level="cuda_graph")
    with pytest.raises(RuntimeFailure, match="'cuda_graph': CUDA graphs need an NVIDIA GPU"):
        OnTheCpu.open(request_of(tmp_path, options))
    with pytest.raises(RuntimeFailure, match="known: default, torchscript, compile, cuda_graph"):
        OnTheCpu.open(request_of(tmp_path, replace(options, graph_level="all")))
    with pytest.raises(RuntimeFailure, match="no precision 'int8'"):
        OnTheCpu.open(request_of(tmp_path, RuntimeOptions(precision="int8")))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    module = residual_net()
    return module, exported(module, tmp_path_factory.mktemp("net") / "net.pt2")


@pytest.mark.parametrize("level", ["default", "torchscript"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_every_way_of_running_answers_the_same(
    level: str, precision: str, channels_last: bool, net: tuple[Any, Path]
) -> None:
    module, path = net
    options = RuntimeOptions(precision, graph_level=level, channels_last=channels_last)  # type: ignore[arg-type]
    session = OnTheCpu.open(SessionRequest(model_file(path), NET_HW, options, "image"))
    image = np.random.default_rng(1).normal(size=(1, 3, *NET_HW)).astype(np.float32)
    (found,) = session.infer(image)
    session.close()
    with torch.inference_mode():
        expected = module(torch.from_numpy(image)).numpy()
    off = np.abs(found - expected).max() / np.abs(expected).max()
    assert off < {"fp32": 1e-5, "fp16": 5e-3, "bf16": 4e-2}[precision]
    assert (off > 1e-7) == (precision != "fp32")


def test_weights_of_matrix_operators_alone_are_halved(tmp_path: Path) -> None:
    class Net(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)
            self.shared = torch.nn.Parameter(torch.ones(4, 4))

        def forward(self, image: Any) -> Any:
            pooled = self.norm(self.conv(image)).mean((2, 3)).to(torch.float32)
            return torch.nn.functional.linear(pooled, self.shared) + self.shared.sum()

    program = torch.export.export(Net().eval(), (torch.zeros(1, 3, 16, 16),))
    module = program.module(check_guards=False)
    assert any("_assert_tensor_metadata" in str(node.target) for node in module.graph.nodes)
    store_halved(module, torch.bfloat16)
    halved = {name for name, value in module.named_parameters() if value.dtype == torch.bfloat16}
    assert halved == {"conv.weight", "conv.bias"}
    with torch.autocast("cpu", torch.bfloat16):
        module(torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize("threshold", [0.3, 0.999])
def test_nms_is_done_where_the_request_is_waited_for(
    threshold: float, gpu: Gpu, tmp_path: Path
) -> None:
    plain = request_of(tmp_path, RuntimeOptions(in_flight=2))
    description = tiny_config(tmp_path).description
    path = tmp_path / "with.pt2"
    limits = {"score_threshold": threshold, "iou_threshold": 0.9, "max_detections": 50}
    with_nms(plain.model.path, path, description, **limits)  # type: ignore[arg-type]
    rule = read_suppressing(path)[1]
    assert rule is not None
    session = on_gpu(replace(plain, model=model_file(path)))
    images = [tensor(seed) for seed in range(2)]
    gpu.log.clear()
    tickets = [session.submit(image) for image in images]
    assert {entry[0] for entry in gpu.log} == {"mark", "after", "compute", "pinned"}
    for image, ticket in zip(images, tickets, strict=True):
        (found,) = session.collect(ticket)
        expected = suppressed([torch.from_numpy(reference(image))], rule).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-3)
        assert bool(len(found)) == (threshold < 0.9)
        session.release(ticket)
    session.close()


def test_a_failing_model_is_a_failure_and_not_the_end(tmp_path: Path) -> None:
    session = OnTheCpu.open(request_of(tmp_path, RuntimeOptions(in_flight=1), model_hw=HW))
    with pytest.raises(RuntimeFailure, match="PyTorch failed to run"):
        session.submit(tensor(0, (32, 32)))
    ticket = session.submit(tensor(1))
    np.testing.assert_allclose(session.collect(ticket)[0], reference(tensor(1)), atol=1e-4)
    session.release(ticket)
    session.close()


GPU = {"torch-cuda": Availability(True, "1", "GPU", "torch", ("fp32", "fp16"), ("torch_export",))}


def torch_context(folder: Path) -> PlanContext:
    context = next(example_contexts(folder))
    program = model_file(write_tiny("torch_export", folder))
    config = replace(context.config, model=program, runtime="torch", shape="square")
    on_cpu = {"torch": Availability(True, "1", "CPU", "torch", ("fp32",), ("torch_export",))}
    return replace(context, config=config, runtimes=on_cpu, video=False)


def test_its_ways_are_offered(tmp_path: Path) -> None:
    context = torch_context(tmp_path)
    on_cuda = replace(context, config=replace(context.config, runtime="torch-cuda"), runtimes=GPU)
    offered = list(ExecuteTorch.variants(on_cuda))
    assert {(way.mode, way.precision) for way in offered} == {
        way for way in ON_GPUS if way[1] != "bf16"
    }
    assert len({way.label for way in offered}) == len(offered)
    for way in offered:
        assert way.applies(on_cuda) is None
        then = replace(on_cuda, config=way.apply(on_cuda))
        assert way.applies(then) == "already in use"
        assert way.predict(on_cuda).bound >= way.predict(on_cuda).gain
        assert way.predict(then).gain == pytest.approx(1)
    recorded = ExecuteTorch("cuda_graph", "fp16")
    rect = replace(on_cuda, config=replace(on_cuda.config, shape="rect"))
    assert "many shapes" in (recorded.applies(rect) or "")
    assert recorded.applies(replace(rect, video=True)) is None
    assert "has no cuda_graph" in (recorded.applies(context) or "")


def test_a_program_moves_to_the_gpu_as_it_is(tmp_path: Path) -> None:
    context = torch_context(tmp_path)
    (switch,) = SwitchRuntime.variants(replace(context, runtimes={**context.runtimes, **GPU}))
    both = replace(context, runtimes={**context.runtimes, **GPU})
    assert switch == SwitchRuntime("torch-cuda", "fp16")
    assert switch.applies(both) is None
    changed = switch.apply(both)
    assert changed.model == context.config.model
    assert (changed.runtime, changed.options.precision) == ("torch-cuda", "fp16")
