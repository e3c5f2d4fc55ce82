"""Inference that only a GPU can do. Not part of a run without one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saccade import plugins
from saccade.errors import RuntimeFailure
from saccade.models.files import model_file
from saccade.pipeline.config import RuntimeOptions
from saccade.pipeline.pipeline import Pipeline
from saccade.runtimes.contract import Session, SessionRequest
from saccade.runtimes.torch_cuda import TorchCuda
from saccade.testing.runtime_conformance import CHECKS, HW, Check, tensor
from saccade.testing.tiny_models import reference, tiny_config, write_tiny
from saccade.testing.tiny_torch import HW as NET_HW
from saccade.testing.tiny_torch import exported, residual_net
from saccade.testing.tiny_yolo import tiny_yolo_config

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]
ON_GPUS = ("torch-cuda", "onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt")
LEVELS = ("default", "torchscript", "compile", "cuda_graph")
TOLERANCES = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}


def runtime_of(name: str) -> Any:
    runtime = plugins.load("runtimes", name)
    if not runtime.availability().ok:
        pytest.skip(f"{name} is {runtime.availability().detail}")
    return runtime


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, np.ndarray]:
    """A program, an input, and what PyTorch answers to it on the CPU."""
    module = residual_net()
    path = exported(module, tmp_path_factory.mktemp("net") / "net.pt2")
    image = np.random.default_rng(1).normal(size=(1, 3, *NET_HW)).astype(np.float32)
    with torch.inference_mode():
        return path, image, module(torch.from_numpy(image)).numpy()


def request_of(folder: Path, runtime: str = "torch-cuda", **options: Any) -> SessionRequest:
    path = write_tiny(runtime_of(runtime).availability().formats[0], folder, HW)
    return SessionRequest(model_file(path), HW, RuntimeOptions(**options), "images")


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    opened = TorchCuda.open(request_of(tmp_path, in_flight=4, streams=2))
    yield opened
    opened.close()


@pytest.mark.parametrize("level", ["default", "cuda_graph"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_contract_is_kept(check: Check, level: str, tmp_path: Path) -> None:
    class AtLevel(TorchCuda):
        @staticmethod
        def open(request: SessionRequest) -> Session:
            return TorchCuda.open(
                replace(request, options=replace(request.options, graph_level=level))
            )

    check(AtLevel, tmp_path)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning")  # of Inductor's own modules
def test_every_way_of_running_answers_the_same(
    level: str, precision: str, channels_last: bool, net: tuple[Path, np.ndarray, np.ndarray]
) -> None:
    if precision not in TorchCuda.availability().precisions:
        pytest.skip(f"this GPU has no {precision}")
    path, image, expected = net
    options = RuntimeOptions(precision, graph_level=level, channels_last=channels_last)  # type: ignore[arg-type]
    session = TorchCuda.open(SessionRequest(model_file(path), NET_HW, options, "image"))
    try:
        for _ in range(3):
            (found,) = session.infer(image)
    finally:
        session.close()
    assert np.abs(found - expected).max() < TOLERANCES[precision] * np.abs(expected).max()


@pytest.mark.parametrize("level", ["default", "cuda_graph"])
def test_requests_do_not_mix_while_another_thread_collects(level: str, tmp_path: Path) -> None:
    """Copies and computation of many requests overlap, each in buffers of its own."""
    options = {"in_flight": 6, "streams": 3, "graph_level": level, "spinning": False}
    opened = TorchCuda.open(request_of(tmp_path, **options))
    images = [tensor(seed) for seed in range(200)]
    tickets: list[Any] = []
    ready = threading.Semaphore(0)

    def submit() -> None:
        for image in images:
            tickets.append(opened.submit(image))
            ready.release()

    thread = threading.Thread(target=submit)
    thread.start()
    worst = 0.0
    for index, image in enumerate(images):
        assert ready.acquire(timeout=60)
        (found,) = opened.collect(tickets[index])
        worst = max(worst, float(np.abs(found - reference(image)).max()))
        opened.release(tickets[index])
    thread.join()
    opened.close()
    assert worst < 1e-3


def test_host_buffers_are_pinned(session: Session) -> None:
    ticket = session.submit(tensor(1))
    (found,) = session.collect(ticket)
    assert torch.from_numpy(found).is_pinned()
    session.release(ticket)


def test_submitting_does_not_wait_for_the_gpu(session: Session) -> None:
    """Told by events, not by a clock: the GPU is kept busy until everything was submitted."""
    # Memory is taken in the first round, which may wait for the GPU.
    for ticket in [session.submit(tensor(0)) for _ in range(4)]:
        session.collect(ticket)
        session.release(ticket)
    for stream in [lane._stream for lane in _lanes(session)]:
        with torch.cuda.stream(stream):
            torch.cuda._sleep(1_000_000_000)  # cycles, about half a second
    busy = torch.cuda.Event()
    busy.record(stream)
    tickets = [session.submit(tensor(seed)) for seed in range(4)]
    assert not busy.query(), "submit waited until the GPU was idle"
    for seed, ticket in enumerate(tickets):
        np.testing.assert_allclose(session.collect(ticket)[0], reference(tensor(seed)), atol=1e-3)
        session.release(ticket)


def _lanes(session: Any) -> list[Any]:
    return [next(session._lanes) for _ in range(2)]


@pytest.mark.parametrize("level", ["default", "cuda_graph"])
def test_nms_on_the_gpu_keeps_the_same_boxes(level: str, tmp_path: Path) -> None:
    base = tiny_config(tmp_path, HW, score_threshold=0.1, iou_threshold=0.8, shape="rect")
    program = model_file(write_tiny("torch_export", tmp_path, HW))
    options = RuntimeOptions(graph_level=level)
    on_gpu = replace(base, model=program, runtime="torch-cuda", options=options, nms="graph")
    random = np.random.default_rng(3)
    kept = 0
    with Pipeline(base) as outside, Pipeline(on_gpu) as inside:
        for _ in range(20):
            image = random.integers(0, 255, (*HW, 3), np.uint8)
            expected, found = outside.judge(image, 0.001), inside.judge(image, 0.001)
            np.testing.assert_array_equal(found.class_ids, expected.class_ids)
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
            np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)
            kept += len(found)
    assert kept > 20


def test_nms_of_a_crowd_is_the_same_on_the_gpu() -> None:
    from saccade.models.description import BoxOutputs
    from saccade.models.torch_nms import Suppression, suppressed

    rule = Suppression("yolov8", False, BoxOutputs(box_format="cxcywh"), 0.01, 0.5, 300)
    for seed in range(10):
        random = np.random.default_rng(seed)
        # More than batched_nms takes at once on the CPU.
        centres, sizes = random.random((2, 3000)) * 600, 8 + random.random((2, 3000)) * 90
        scores = random.permutation(3 * 3000).reshape(3, 3000) / 9000
        rows = torch.from_numpy(np.concatenate([centres, sizes, scores])[None].astype(np.float32))
        expected, found = suppressed([rows], rule), suppressed([rows.cuda()], rule)
        assert torch.equal(found.cpu(), expected)
        assert len(found) == 300


def test_a_model_that_looks_at_values_cannot_be_recorded(tmp_path: Path) -> None:
    class Found(torch.nn.Module):  # type: ignore[misc]
        def forward(self, image: Any) -> Any:
            return image.nonzero()

    path = exported(Found(), tmp_path / "found.pt2")
    options = RuntimeOptions(graph_level="cuda_graph")
    with pytest.raises(RuntimeFailure, match="refused 'cuda_graph'"):
        TorchCuda.open(SessionRequest(model_file(path), NET_HW, options, "image"))


def test_operator_times_are_those_of_the_gpu(tmp_path: Path) -> None:
    request = replace(request_of(tmp_path, graph_level="cuda_graph"), profile=True)
    session = TorchCuda.open(request)
    for seed in range(4):
        session.infer(tensor(seed))
    found = session.operators()
    session.close()
    assert any(op.kind == "Conv" and op.wall_ms > 0 for op in found)


@pytest.mark.parametrize("name", ON_GPUS[1:])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_other_runtimes_keep_the_contract(name: str, check: Check, tmp_path: Path) -> None:
    check(runtime_of(name), tmp_path)


@pytest.mark.parametrize("name", ON_GPUS)
def test_half_precision(name: str, tmp_path: Path) -> None:
    runtime = runtime_of(name)
    if "fp16" not in runtime.availability().precisions:
        pytest.skip(f"{name} has no fp16")
    session = runtime.open(request_of(tmp_path, name, precision="fp16"))
    try:
        (found,) = session.infer(tensor(1))
    finally:
        session.close()
    expected = reference(tensor(1))
    assert np.abs(found - expected).max() < 1e-2 * np.abs(expected).max()


@pytest.mark.parametrize("name", ON_GPUS[1:3])
def test_nms_in_the_graph_of_onnx_runtime(name: str, tmp_path: Path) -> None:
    runtime_of(name)
    base = replace(tiny_yolo_config(tmp_path), score_threshold=0.3)
    image = np.random.default_rng(3).integers(0, 255, (64, 96, 3), np.uint8)
    with Pipeline(base) as outside, Pipeline(replace(base, runtime=name, nms="graph")) as inside:
        expected, found = outside(image), inside(image)
    np.testing.assert_array_equal(found.class_ids, expected.class_ids)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.1)
