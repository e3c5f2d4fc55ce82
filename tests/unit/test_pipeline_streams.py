"""A whole pipeline on a tiny model: sizes that vary, streams that are left, sessions that stay."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from saccade.errors import DataError, RuntimeFailure, WorkerFailure
from saccade.optimize.worker import Worker
from saccade.pipeline.config import PipelineConfig, RuntimeOptions
from saccade.pipeline.pipeline import Pipeline
from saccade.pipeline.sessions import KEPT_SESSIONS
from saccade.tasks.results import DetectionResult
from saccade.testing.tiny_models import tiny_config

FAKE = "saccade.testing.fake_runtime:"
RUNTIMES = ["onnxruntime", "openvino", FAKE + "FakeRuntime"]
# More shapes than sessions are kept.
SIZES = [(40, 80), (80, 40), (64, 64), (20, 90), (90, 20), (50, 60), (70, 40), (33, 77)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for index, hw in enumerate(SIZES * 2):
        pixels = random.integers(0, 255, (*hw, 3), np.uint8)
        cv2.imwrite(str(where / f"{index:02}.png"), pixels)
    return where


def config_of(tmp_path: Path, runtime: str = "onnxruntime", **changes: object) -> PipelineConfig:
    base = tiny_config(tmp_path, runtime=runtime, score_threshold=0.01)
    return replace(base, **changes)  # type: ignore[arg-type]


def overlapped(in_flight: int = 3) -> dict[str, object]:
    options = RuntimeOptions(threads=2, streams=2, in_flight=in_flight, spinning=False)
    return {"execution": "overlapped", "options": options}


def results(config: PipelineConfig, source: Path) -> list[DetectionResult]:
    with Pipeline(config) as pipeline:
        return list(pipeline.stream(source))


@pytest.mark.parametrize("shape", ["square", "rect"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_images_of_many_sizes_give_the_same_in_both_executions(
    runtime: str, shape: str, folder: Path, tmp_path: Path
) -> None:
    plain = results(config_of(tmp_path, shape=shape), folder)
    assert len(plain) == len(SIZES) * 2
    assert sum(len(result) for result in plain) > 0
    for preprocessor in ("fused", "graph"):
        config = config_of(
            tmp_path, runtime, shape=shape, preprocessor=preprocessor, **overlapped()
        )
        for found, expected in zip(results(config, folder), plain, strict=True):
            assert_allclose(found.boxes, expected.boxes, atol=0.05)
            assert_allclose(found.scores, expected.scores, atol=1e-3)
            assert_array_equal(found.class_ids, expected.class_ids)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_images_between_do_not_take_the_streams_session_away(
    runtime: str, folder: Path, tmp_path: Path
) -> None:
    """Images whose shapes all need sessions of their own, while a stream of another is open."""
    base = tiny_config(tmp_path, (160, 160), runtime=runtime, shape="rect")
    base = replace(base, description=replace(base.description, stride=32))
    same_size = tmp_path / "frames"
    same_size.mkdir()
    for index in range(4):
        cv2.imwrite(str(same_size / f"{index}.png"), np.full((64, 64, 3), 9 * index, np.uint8))
    random = np.random.default_rng(0)
    with Pipeline(base) as pipeline:
        assert KEPT_SESSIONS < 5
        count = 0
        for _ in pipeline.stream(same_size):
            count += 1
            for side in range(20, 160, 32):
                hw = (160, side)
                pipeline(random.integers(0, 255, (*hw, 3), np.uint8))
        assert count == 4


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_closing_a_pipeline_ends_its_suspended_stream(
    runtime: str, in_flight: int, folder: Path, tmp_path: Path
) -> None:
    pipeline = Pipeline(config_of(tmp_path, runtime, **overlapped(in_flight)))
    stream = pipeline.emissions(str(folder), loop=True)
    next(stream)
    pipeline.close()
    pipeline.close()
    stream.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name == "saccade-feeder"]


def test_a_failing_runtime_fails_the_stream_with_its_reason(folder: Path, tmp_path: Path) -> None:
    for changes in ({}, overlapped()):
        config = config_of(tmp_path, FAKE + "FailingRuntime", **changes)
        with Pipeline(config) as pipeline:
            stream = pipeline.stream(folder)
            next(stream)
            with pytest.raises(RuntimeFailure, match="told to"):
                list(stream)


def test_garbage_is_nothing_found(folder: Path, tmp_path: Path) -> None:
    found = results(config_of(tmp_path, FAKE + "GarbageRuntime"), folder)
    assert [len(result) for result in found] == [0] * len(SIZES) * 2


@pytest.mark.parametrize(
    ("runtime", "said", "timeout_s"),
    [("CrashingRuntime", "exit code 70", 60.0), ("HangingRuntime", "hung", 1.0)],
)
def test_a_worker_takes_the_blow(
    runtime: str, said: str, timeout_s: float, folder: Path, tmp_path: Path
) -> None:
    arguments = (config_of(tmp_path, FAKE + runtime), str(folder))
    with (
        Worker("saccade.optimize.measuring:Subject", arguments) as worker,
        pytest.raises(WorkerFailure, match=said),
    ):
        worker.call("block", 8, 2, timeout_s=timeout_s)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=["grey", "four channels", "float", "empty"],
)
def test_arrays_that_are_no_images_are_refused(image: np.ndarray, tmp_path: Path) -> None:
    with Pipeline(config_of(tmp_path)) as pipeline, pytest.raises(DataError, match="RGB uint8"):
        pipeline(image)


def test_a_source_without_frames_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with Pipeline(config_of(tmp_path)) as pipeline, pytest.raises(DataError, match="No frame"):
        list(pipeline.stream(tmp_path / "empty"))


def test_unreadable_images_are_skipped_and_noted_once(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "mixed"
    source.mkdir()
    (source / "a.png").write_bytes((folder / "00.png").read_bytes())
    (source / "b.jpg").write_bytes(b"\xff\xd8 no more")
    with Pipeline(config_of(tmp_path, **overlapped())) as pipeline:
        stream = pipeline.emissions(str(source), loop=True)
        assert [next(stream).index for _ in range(5)] == [0, 1, 2, 3, 4]
        stream.close()  # type: ignore[attr-defined]
        assert [problem.kind for problem in pipeline.problems] == ["unreadable_image"]


def test_one_image_and_the_stream_agree(folder: Path, tmp_path: Path) -> None:
    config = config_of(tmp_path, preprocessor="fused")
    with Pipeline(config) as pipeline:
        streamed = list(pipeline.stream(folder))
        for path, expected in zip(sorted(folder.iterdir()), streamed, strict=True):
            assert_allclose(pipeline(path).boxes, expected.boxes, atol=0.01)


def test_an_overlapped_pipeline_gives_opencv_its_threads_back(tmp_path: Path) -> None:
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        with Pipeline(config_of(tmp_path, **overlapped())):
            assert cv2.getNumThreads() == 1
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)
