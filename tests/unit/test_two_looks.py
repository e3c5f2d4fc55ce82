"""A dynamic resolution in both engines: who is looked at twice, in which order it comes out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engine import FakePreprocessor, FakeSession, Reader, SharedClock, feeders
from tiny_system import picture

from saccade.errors import RuntimeFailure
from saccade.optimize.policy import STILL
from saccade.pipeline import stillness
from saccade.pipeline.config import PipelineConfig, ResolutionPolicy, RuntimeOptions
from saccade.pipeline.doubt import above, doubtful
from saccade.pipeline.engine import Emission, Stages
from saccade.pipeline.frames import ArrayFrame
from saccade.pipeline.geometry import Letterbox, letterbox
from saccade.pipeline.pipeline import Pipeline
from saccade.pipeline.sessions import SessionPool
from saccade.pipeline.two_looks import FirstLook, run_overlapped_twice, run_sequential_twice
from saccade.tasks.results import DetectionResult
from saccade.testing.tiny_models import tiny_config

ENGINES = ["sequential", "overlapped"]
SMALL, LARGE = 32, 64


class TwoSizes:
    """Fake stages of both sizes; frames in ``doubts`` ask for a second look."""

    def __init__(self, count: int, doubts: set[int], in_flight: int = 2, **faults: int) -> None:
        self.clock = SharedClock()
        self.reader = Reader([(60, 80)] * count)
        self.doubts = doubts
        self.in_flight = in_flight
        self.faults = faults
        self.sessions: dict[int, FakeSession] = {}
        self.large = self._stages(LARGE)
        settled = lambda result: ("settled", *result)  # noqa: E731
        self.first = FirstLook(
            self._stages(SMALL), lambda result: result[1] in doubts, settled, in_flight
        )

    def _stages(self, size: int) -> Stages:
        fails_in = "submit" if "submit" in self.faults else "collect"
        fails_at = self.faults.get(fails_in) if size == self.faults.get("size", LARGE) else None
        self.sessions[size] = FakeSession(self.clock, self.in_flight, fails_at, fails_in)

        def postprocess(outputs: Any, box: Letterbox) -> tuple[int, int]:
            number = int(outputs[0].flat[0])
            assert (outputs[0] == number).all(), "a buffer was written to while it was in use"
            return max(box.input_hw), number

        return Stages(
            FakePreprocessor(self.clock),  # type: ignore[arg-type]
            postprocess,
            lambda hw: letterbox(hw, size, 8, "rect", "center"),
            lambda hw: self.sessions[size],
            self.clock,
        )

    def run(self, engine: str, slots: int = 4, keep: bool = False) -> Iterator[Emission]:
        frames = self.reader.frames()
        if engine == "sequential":
            return run_sequential_twice(self.large, self.first, frames, keep)
        return run_overlapped_twice(self.large, self.first, frames, slots, keep)

    def expected(self, number: int) -> tuple[Any, ...]:
        return (LARGE, number) if number in self.doubts else ("settled", SMALL, number)

    @property
    def open_tickets(self) -> int:
        return sum(len(session.open_tickets) for session in self.sessions.values())


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    yield
    assert not feeders()


@pytest.mark.parametrize("engine", ENGINES)
@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(0, 25),
    doubts=st.sets(st.integers(0, 24)),
    slots=st.integers(1, 7),
    in_flight=st.integers(1, 5),
)
def test_every_frame_once_in_order_and_twice_where_in_doubt(
    engine: str, count: int, doubts: set[int], slots: int, in_flight: int
) -> None:
    system = TwoSizes(count, doubts, in_flight)
    emissions = list(system.run(engine, slots))
    assert [e.index for e in emissions] == list(range(count))
    assert [e.result for e in emissions] == [system.expected(i) for i in range(count)]
    assert [e.look for e in emissions] == ["full" if i in doubts else "small" for i in range(count)]
    assert system.open_tickets == 0
    for emission in emissions:
        moments = [moment for span in emission.stages.values() for moment in span]
        assert list(emission.stages) == ["decode", "preprocess", "infer", "postprocess"]
        assert moments == sorted(moments)
        assert emission.frame is None and emission.emitted_s >= moments[-1]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_frame_that_was_looked_at_is_given_where_asked_for(engine: str) -> None:
    frames = [e.frame for e in TwoSizes(6, {1, 4}).run(engine, keep=True)]
    assert [frame.number for frame in frames if frame is not None] == list(range(6))  # type: ignore[attr-defined]


@pytest.mark.parametrize("fault", ["collect", "submit"])
@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("engine", ENGINES)
def test_failures_reach_the_caller_after_what_was_good(engine: str, size: int, fault: str) -> None:
    system = TwoSizes(12, {2, 5, 7}, size=size, **{fault: 5})
    found = []
    with pytest.raises(RuntimeFailure, match="session"):
        for emission in system.run(engine):
            found.append(emission.index)
    assert found == [0, 1, 2, 3, 4]
    assert system.open_tickets == 0


@pytest.mark.parametrize("taken", [1, 5])
def test_a_stream_may_be_left_early(taken: int) -> None:
    system = TwoSizes(1000, set(range(0, 1000, 2)))
    stream = system.run("overlapped")
    for _ in range(taken):
        next(stream)
    with contextlib.closing(stream):  # type: ignore[type-var]
        pass
    assert system.open_tickets == 0
    assert system.reader.closed_by == "saccade-feeder"


def test_second_looks_under_way_are_bounded() -> None:
    system = TwoSizes(60, set(range(60)), in_flight=3)
    list(system.run("overlapped", slots=9))
    assert 1 <= system.sessions[LARGE].most_open <= 3


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rehearsed", [True, False])
def test_the_full_size_is_ready_before_a_frame_asks_for_it(engine: str, rehearsed: bool) -> None:
    system = TwoSizes(8, {5})
    system.first = replace(system.first, rehearsed=rehearsed)
    inferred: list[int] = []
    large = system.sessions[LARGE]
    infer = large.infer
    large.infer = lambda tensor: inferred.append(int(tensor.flat[0])) or infer(tensor)  # type: ignore
    stream = system.run(engine, slots=2)
    first = next(stream)
    assert inferred == [0] * rehearsed and first.result == ("settled", SMALL, 0)
    rest = list(stream)
    assert inferred == [0] * rehearsed + [5]
    assert [e.result for e in rest] == [system.expected(i) for i in range(1, 8)]


# Motion


@pytest.mark.parametrize("engine", ENGINES)
@settings(deadline=None, max_examples=40)
@given(
    scenes=st.lists(st.integers(0, 1), max_size=25),
    doubts=st.sets(st.integers(0, 24)),
    slots=st.integers(1, 7),
    in_flight=st.integers(1, 5),
)
def test_a_second_look_serves_until_something_moves(
    engine: str, scenes: list[int], doubts: set[int], slots: int, in_flight: int
) -> None:
    """Each frame shows one of two scenes; between second looks only those in doubt are asked."""
    system = TwoSizes(len(scenes), doubts, in_flight)
    system.first = replace(system.first, still_up_to=0.5)
    expected: list[tuple[Any, ...]] = []
    last: int | None = None
    for index, scene in enumerate(scenes):
        if index in doubts and (last is None or scenes[last] != scene):
            last = index
        expected.append((LARGE, last) if index in doubts else ("settled", SMALL, index))

    def brightness(frame: Any) -> np.ndarray:
        return np.full((2, 2), scenes[frame.number], np.float32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stillness, "brightness", brightness)
        emissions = list(system.run(engine, slots))
    assert [e.result for e in emissions] == expected
    looks = {("settled", SMALL): "small", ("full",): "full", ("before",): "as before"}
    for index, emission in enumerate(emissions):
        kind = ("settled", SMALL) if index not in doubts else None
        again = ("full",) if expected[index] == (LARGE, index) else ("before",)
        assert emission.look == looks[kind or again]
    assert system.open_tickets == 0
    for emission in emissions:
        moments = [moment for span in emission.stages.values() for moment in span]
        assert moments == sorted(moments)


def test_what_cells_show() -> None:
    scene = cv2.resize(picture(0, (48, 96)), (640, 360))
    noise = np.random.default_rng(0).normal(0, 4, scene.shape)
    noisy = np.clip(scene + noise, 0, 255).astype(np.uint8)
    moved = scene.copy()
    moved[100:140, 200:240] = 255
    seen, again, other = (brightness_of(x) for x in (scene, noisy, moved))
    assert seen.shape == (12, 20) and 0 <= seen.min() <= seen.max() <= 1
    assert stillness.change_between(seen, again) < STILL[1]
    assert stillness.change_between(seen, other) > STILL[-1]
    narrow = brightness_of(scene[:, :320])
    assert stillness.change_between(seen, narrow) == 1.0


def brightness_of(pixels: np.ndarray) -> np.ndarray:
    return stillness.brightness(ArrayFrame(pixels, "rgb"))


# Doubt


scores = st.lists(st.floats(0, 1, width=32), max_size=8)


def result_of(values: list[float]) -> DetectionResult:
    count = len(values)
    boxes = np.arange(4 * count, dtype=np.float32).reshape(count, 4)
    array = np.array(values, np.float32)
    return DetectionResult(boxes, array, np.arange(count), masks=np.ones((count, 2, 2), np.bool_))


@given(values=scores, low=st.floats(0, 0.5), high=st.floats(0.5, 1))
def test_doubt_is_a_score_between_the_limits(values: list[float], low: float, high: float) -> None:
    found = doubtful(ResolutionPolicy(32, low, high), result_of(values))
    assert found == any(low < np.float32(v) < high for v in values)


@given(values=scores, threshold=st.floats(0, 1))
def test_what_is_settled_has_nothing_below_the_threshold(
    values: list[float], threshold: float
) -> None:
    before = result_of(values)
    after = above(threshold, before)
    kept = [i for i, v in enumerate(before.scores) if v > threshold]
    assert after.class_ids.tolist() == kept
    assert np.array_equal(after.boxes, before.boxes[kept])
    assert after.masks is not None and len(after.masks) == len(after.scores) == len(kept)
    assert after.track_ids is None


# A real pipeline


@pytest.fixture
def base(tmp_path: Path) -> PipelineConfig:
    for index in range(5):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture(3 * index, (48, 96)))
    return tiny_config(tmp_path, preprocessor="fused", score_threshold=0.3)


def answers(config: PipelineConfig, folder: Path) -> list[DetectionResult]:
    with Pipeline(config) as pipeline:
        return list(pipeline.stream(str(folder)))


def equal(first: list[DetectionResult], second: list[DetectionResult]) -> bool:
    return len(first) == len(second) and all(
        np.allclose(a.boxes, b.boxes, atol=1e-3) and np.allclose(a.scores, b.scores, atol=1e-5)
        for a, b in zip(first, second, strict=True)
    )


def test_never_in_doubt_is_the_small_size_and_always_is_the_full_one(
    base: PipelineConfig, tmp_path: Path
) -> None:
    never, always = ResolutionPolicy(32, 0.9999, 1.0), ResolutionPolicy(32, 0.0, 2.0)
    small = answers(replace(base, input_size=32), tmp_path)
    large = answers(base, tmp_path)
    assert not equal(small, large) and any(len(r) for r in small)
    assert equal(answers(replace(base, dynamic_resolution=never), tmp_path), small)
    assert equal(answers(replace(base, dynamic_resolution=always), tmp_path), large)


def test_both_engines_and_single_images_decide_alike(base: PipelineConfig, tmp_path: Path) -> None:
    with Pipeline(replace(base, input_size=32, score_threshold=0.0)) as pipeline:
        highest = [max(r.scores, default=0.0) for r in pipeline.stream(str(tmp_path))]
    # Between the frames' highest scores, so that some frames are in doubt and some are not.
    limit = float(np.median(highest))
    config = replace(base, dynamic_resolution=ResolutionPolicy(32, limit, 2.0))
    overlapped = replace(
        config,
        execution="overlapped",
        options=RuntimeOptions(threads=2, streams=2, in_flight=3, spinning=False),
    )
    one_by_one = answers(config, tmp_path)
    assert equal(answers(overlapped, tmp_path), one_by_one)
    with Pipeline(config) as pipeline:
        images = [pipeline(path) for path in sorted(tmp_path.glob("*.png"))]
    assert equal(images, one_by_one)
    assert not equal(one_by_one, answers(base, tmp_path))
    assert not equal(one_by_one, answers(replace(base, input_size=32), tmp_path))


def test_a_still_video_is_looked_at_twice_once(base: PipelineConfig, tmp_path: Path) -> None:
    """Frames 2 and 5 repeat those before; judged one in three they come out as in the stream."""
    folder = tmp_path / "still"
    folder.mkdir()
    for index, scene in enumerate((0, 0, 0, 9, 9, 9, 0)):
        cv2.imwrite(str(folder / f"{index}.png"), picture(scene, (48, 96)))
    always = replace(base, dynamic_resolution=ResolutionPolicy(32, 0.0, 2.0))
    still = replace(base, dynamic_resolution=ResolutionPolicy(32, 0.0, 2.0, still_up_to=0.01))
    overlapped = replace(
        still, execution="overlapped", options=RuntimeOptions(streams=2, in_flight=3)
    )
    expected = answers(always, folder)
    assert equal(answers(still, folder), expected)
    assert equal(answers(overlapped, folder), expected)
    with Pipeline(still) as pipeline:
        given = list(pipeline.stream(str(folder)))
        judged = list(pipeline.judge_frames(str(folder), 2, 3, 0.3, start=1))
    assert given[0] is given[1] is given[2] and given[3] is given[5] is not given[6]
    assert equal(judged, [expected[1], expected[4]])


def test_a_stream_rehearses_and_a_single_image_does_not(
    base: PipelineConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = ResolutionPolicy(32, 0.9999, 1.0)
    opened: list[int] = []
    create = SessionPool._create

    def noted(pool: SessionPool, hw: Any, *rest: Any) -> Any:
        opened.append(max(hw))
        return create(pool, hw, *rest)

    monkeypatch.setattr(SessionPool, "_create", noted)
    with Pipeline(replace(base, dynamic_resolution=never)) as pipeline:
        pipeline(picture(0, (48, 96)))
        assert opened == [32]
        next(iter(pipeline.stream(str(tmp_path))))
        assert sorted(opened) == [32, 32, 64]


def test_the_decision_is_the_same_at_any_threshold(base: PipelineConfig, tmp_path: Path) -> None:
    """Accuracy is judged on all boxes, the pipeline gives the better ones; of the same look."""
    config = replace(base, dynamic_resolution=ResolutionPolicy(32, 0.35, 0.5))
    image = picture(0, (48, 96))
    with Pipeline(config) as pipeline:
        everything = pipeline.judge(image, 0.001)
        usual = pipeline(image)
    expected = above(0.3, everything)
    assert len(usual) and np.allclose(usual.boxes, expected.boxes, atol=1e-3)
    assert np.allclose(usual.scores, expected.scores, atol=1e-5)
