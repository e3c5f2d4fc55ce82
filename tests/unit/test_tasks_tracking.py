"""The tracker behind detection: ids, streams, frames that are filled in, drawing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_system import write_model, write_video

from saccade.models.files import model_file
from saccade.models.onnx_model import describe
from saccade.pipeline.config import PipelineConfig, RuntimeOptions, TrackerOptions
from saccade.pipeline.pipeline import Pipeline
from saccade.tasks.results import DetectionResult
from saccade.tasks.tracking import TrackingTask
from saccade.tasks.tracks import NO_TRACK, Tracks

pytest.importorskip("trackers")
from saccade.tasks.bytetrack import ByteTracker

HW = (200, 400)


def seen(*boxes: tuple[float, float, float], class_id: int = 0) -> DetectionResult:
    """One 20x40 box per (left, top, score), best first."""
    rows = sorted(boxes, key=lambda box: -box[2])
    return DetectionResult(
        np.array([[x, y, x + 20, y + 40] for x, y, _ in rows], np.float32).reshape(-1, 4),
        np.array([score for *_, score in rows], np.float32),
        np.full(len(rows), class_id, np.int64),
    )


def ids(result: DetectionResult) -> list[int]:
    assert result.track_ids is not None
    return result.track_ids.tolist()


def test_an_object_gets_its_id_with_its_second_detection_and_keeps_it() -> None:
    tracker = ByteTracker(TrackerOptions())
    found = [tracker.update(seen((10 + 3 * t, 50, 0.9)), t) for t in range(6)]
    assert [ids(result) for result in found] == [[NO_TRACK], [1], [1], [1], [1], [1]]
    assert len(found[0]) == 1, "it is reported before it has an id"


def test_a_low_score_continues_a_track_and_begins_none() -> None:
    tracker = ByteTracker(TrackerOptions())
    for t in range(3):
        tracker.update(seen((10, 50, 0.9)), t)
    result = tracker.update(seen((10, 50, 0.3), (200, 50, 0.3)), 3)
    assert ids(result) == [1]
    assert result.boxes[0, 0] == 10


def test_a_lost_track_ends_after_its_frames() -> None:
    for gap, expected in ((4, 1), (8, 2)):
        tracker = ByteTracker(TrackerOptions(lost_frames=5))
        for t in range(3):
            tracker.update(seen((10, 50, 0.9)), t)
        for t in range(3, 3 + gap):
            tracker.update(DetectionResult.empty(), t)
        tracker.update(seen((10, 50, 0.9)), 3 + gap)
        assert ids(tracker.update(seen((10, 50, 0.9)), 4 + gap)) == [expected]


@pytest.mark.parametrize("step", [2, 3, 4])
def test_frames_between_detections_are_predicted_from_the_motion(step: int) -> None:
    """A walker at constant speed is found within two pixels where nobody looked."""
    tracker = ByteTracker(TrackerOptions())
    for t in range(0, 10 * step, step):
        tracker.update(seen((10 + 2 * t, 50, 0.9), (300 - 2 * t, 120, 0.8), class_id=1), t)
    before = tracker.update(seen((10 + 20 * step, 50, 0.9)), 10 * step)
    for ahead in range(1, step):
        found = tracker.predict(10 * step + ahead, HW)
        assert ids(found) == ids(before) == [1], "the other one was not seen in the last look"
        assert abs(found.boxes[0, 0] - (10 + 2 * (10 * step + ahead))) < 2
        assert (found.scores[0], found.class_ids[0]) == (before.scores[0], before.class_ids[0])


def test_predicting_leaves_the_tracks_as_they_are() -> None:
    plain, asked = ByteTracker(TrackerOptions()), ByteTracker(TrackerOptions())
    for t in range(0, 12, 2):
        now = seen((10 + 4 * t, 50, 0.9), (200 - 3 * t, 60, 0.65))
        first, second = plain.update(now, t), asked.update(now, t)
        assert ids(first) == ids(second)
        here, again = asked.predict(t + 1, HW), asked.predict(t + 1, HW)
        assert np.array_equal(here.boxes, again.boxes)
    assert np.array_equal(plain.predict(12, HW).boxes, asked.predict(12, HW).boxes)


def test_what_leaves_the_frame_is_clipped_and_then_gone() -> None:
    tracker = ByteTracker(TrackerOptions())
    for t in range(4):
        tracker.update(seen((350 + 10 * t, 50, 0.9)), t)
    near = tracker.predict(5, HW)
    assert near.boxes[0, 2] == HW[1]
    assert len(tracker.predict(12, HW)) == 0


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "v.mp4", 24)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> PipelineConfig:
    path = write_model(tmp_path_factory.mktemp("model"))
    options = TrackerOptions(high_score=0.5, new_track_score=0.5)
    return PipelineConfig(
        "tracking", model_file(path), describe(path), 64, 0.7, tracker=options, score_threshold=0.3
    )


def overlapped(config: PipelineConfig) -> PipelineConfig:
    options = RuntimeOptions(threads=2, streams=1, in_flight=3)
    return replace(config, execution="overlapped", options=options)


def stream(config: PipelineConfig, video: Path) -> Tracks:
    with Pipeline(config) as pipeline:
        return TrackingTask.collect(list(pipeline.stream(video)))


@pytest.mark.parametrize("every", [1, 2, 3])
def test_both_engines_track_the_same(config: PipelineConfig, video: Path, every: int) -> None:
    skipping = replace(config, detect_every=every)
    first, second = stream(skipping, video), stream(overlapped(skipping), video)
    assert len(first) == 24, "every frame has a result"
    assert any((frame > 0).any() for frame in first.track_ids)
    assert TrackingTask.same(first, second)
    assert all(map(np.array_equal, first.track_ids, second.track_ids))


def test_a_new_stream_begins_with_a_new_tracker(config: PipelineConfig, video: Path) -> None:
    with Pipeline(config) as pipeline:
        runs = [TrackingTask.collect(list(pipeline.stream(video))) for _ in range(2)]
        clip = TrackingTask.collect(list(pipeline.judge_clip(str(video), 0, 24)))
    assert (runs[0].track_ids[0] == NO_TRACK).all()
    assert all(map(np.array_equal, runs[0].track_ids, runs[1].track_ids))
    assert all(map(np.array_equal, runs[0].track_ids, clip.track_ids))


def test_a_single_image_is_not_tracked(config: PipelineConfig) -> None:
    with Pipeline(replace(config, detect_every=3)) as pipeline:
        result = pipeline(np.full((96, 128, 3), 90, np.uint8))
    assert result.track_ids is None


def test_only_the_classes_that_count_are_found(config: PipelineConfig, video: Path) -> None:
    every, dogs = stream(config, video), stream(replace(config, classes=(1,)), video)
    assert set(np.concatenate(every.class_ids).tolist()) == {0, 1}
    assert set(np.concatenate(dogs.class_ids).tolist()) == {1}


def test_results_are_the_same_whatever_numbers_objects_have() -> None:
    boxes = np.array([[0, 0, 9, 9], [20, 20, 40, 40]], np.float32)
    scores, classes = np.array([0.9, 0.8], np.float32), np.array([0, 0])

    def tracks(*per_frame: list[int]) -> Tracks:
        return Tracks.of(
            [
                DetectionResult(boxes, scores, classes, track_ids=np.array(numbers))
                for numbers in per_frame
            ]
        )

    assert TrackingTask.same(tracks([1, 2], [1, 2]), tracks([5, 3], [5, 3]))
    assert not TrackingTask.same(tracks([1, 2], [1, 2]), tracks([5, 3], [3, 5]))
    assert not TrackingTask.same(tracks([1, 2], [1, 2]), tracks([5, 5], [5, 5]))
    assert not TrackingTask.same(tracks([1, 2]), tracks([1, 2], [1, 2]))


def test_drawing_colours_objects_and_not_classes() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    boxes = np.array([[10, 40, 60, 90], [110, 40, 160, 90]], np.float32)
    result = DetectionResult(
        boxes, np.ones(2, np.float32), np.zeros(2, np.int64), track_ids=np.array([1, 2])
    )
    drawn = TrackingTask.draw(image, result, ("person",))
    assert not image.any()
    assert drawn[65, 10].any()
    assert drawn[65, 110].any()
    assert not np.array_equal(drawn[65, 10], drawn[65, 110])
