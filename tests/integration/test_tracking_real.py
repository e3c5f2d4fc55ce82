"""Tracking on real MOTChallenge sequences with YOLO11n."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from saccade.data.contract import Dataset
from saccade.data.open import open_labelled, split_roles
from saccade.models.files import model_file
from saccade.models.onnx_model import describe
from saccade.pipeline.config import PipelineConfig, RuntimeOptions, TrackerOptions
from saccade.pipeline.pipeline import Pipeline
from saccade.tasks.tracking import TrackingTask
from saccade.tasks.tracks import Tracks
from saccade.validate.blocks import unit_weights
from saccade.validate.tracking import TrackingJudge

pytest.importorskip("trackers")
pytest.importorskip("trackeval")
pytestmark = [pytest.mark.realdata, pytest.mark.demo_model]


@pytest.fixture(scope="module")
def config(yolo11n: Path) -> PipelineConfig:
    return PipelineConfig(
        "tracking",
        model_file(yolo11n),
        describe(yolo11n),
        640,
        0.7,
        preprocessor="fused",
        nms="vectorized",
        classes=(0,),
        tracker=TrackerOptions(),
    )


@pytest.fixture(scope="module")
def campus(data_root: Path, config: PipelineConfig) -> Dataset:
    path = data_root / "video" / "TUD-Campus"
    found = open_labelled(path, config.description.class_names, "tracking").val
    assert found is not None
    return found


def tracks(config: PipelineConfig, data: Dataset) -> Tracks:
    with Pipeline(config) as pipeline:
        return TrackingTask.collect(list(pipeline.judge_images(data.images, 0.0)))


def test_sequences_are_read_with_their_videos(data_root: Path, config: PipelineConfig) -> None:
    names = config.description.class_names
    splits = open_labelled(data_root / "video" / "PETS09-S2L1", names, "tracking")
    assert splits.val is not None
    assert len(splits.val) == 795
    # 4,650 lines, of which 174 say that they do not count.
    assert sum(len(image.boxes) for image in splits.val.images) == 4476
    roles = split_roles(splits)
    counts = [len(role) for role in (roles.calibration, roles.selection, roles.report) if role]
    assert counts == [80, 318, 397]
    both = open_labelled(data_root / "video", names, "tracking").val
    assert both is not None
    assert len(both) == 795 + 71


def test_figures_on_tud_campus(config: PipelineConfig, campus: Dataset) -> None:
    """HOTA as with the same detections and tracker outside of saccade; skipping costs some."""
    weights = unit_weights(campus)
    found = tracks(config, campus)
    scored = TrackingJudge.scored(campus, found, weights).values
    assert scored["hota"] == pytest.approx(0.4355, abs=0.02)
    assert scored["mota"] == pytest.approx(0.515, abs=0.03)
    assert scored["idf1"] == pytest.approx(0.591, abs=0.03)
    sparse = tracks(replace(config, detect_every=3), campus)
    assert len(sparse) == len(campus)
    fewer = TrackingJudge.scored(campus, sparse, weights).values
    assert 0.3 < fewer["hota"] < scored["hota"] + 0.02
    assert fewer["mota"] < scored["mota"]


def test_the_stream_gives_what_was_judged(config: PipelineConfig, campus: Dataset) -> None:
    """Overlapped and skipping, the stream's tracks are those of the judge's run, frame by frame."""
    skipping = replace(config, detect_every=2)
    options = RuntimeOptions(threads=2, streams=2, in_flight=4, spinning=False)
    streaming = replace(skipping, execution="overlapped", options=options)
    with Pipeline(streaming) as pipeline:
        assert campus.images[0].frame is not None
        stream = TrackingTask.collect(list(pipeline.stream(campus.images[0].frame.source)))
    judged = tracks(skipping, campus)
    assert len(stream) == len(judged) == 71
    same = [np.array_equal(a, b) for a, b in zip(stream.track_ids, judged.track_ids, strict=True)]
    assert np.mean(same) > 0.9, "sums in another order may move a box that is just good enough"
