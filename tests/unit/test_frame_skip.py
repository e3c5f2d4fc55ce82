"""Frame skipping as a change, and what the playbook does around tracking."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_system import write_model, write_video

from saccade.data.frame_roles import CALIBRATION_RUN, RUN, runs
from saccade.models.files import model_file
from saccade.models.onnx_model import describe
from saccade.optimize.change import PlanContext
from saccade.optimize.changes.frame_skip import SkipFrames
from saccade.optimize.measuring import Subject
from saccade.pipeline.config import TrackerOptions
from saccade.playbook.draft import draft_spec
from saccade.playbook.final import fallbacks
from saccade.playbook.prepare import naive
from saccade.spec import make_spec
from saccade.testing.optimization_conformance import example_contexts


@pytest.fixture
def context(tmp_path: Path) -> PlanContext:
    plain = next(example_contexts(tmp_path))
    config = replace(plain.config, task="tracking", tracker=TrackerOptions())
    return replace(plain, config=config)


def test_what_skipping_needs(context: PlanContext) -> None:
    change = SkipFrames(3)
    assert change.applies(context) is None
    assert "not tracked" in (
        change.applies(replace(context, config=replace(context.config, tracker=None))) or ""
    )
    assert "as long as before" in (change.applies(replace(context, objective="latency")) or "")
    already = replace(context, config=replace(context.config, detect_every=3))
    assert "1 frame in 3" in (change.applies(already) or "")
    assert SkipFrames(4).applies(already) is None


def test_what_skipping_promises(context: PlanContext) -> None:
    """Inference goes down with the frames looked at; decoding does not."""
    found = [SkipFrames(every).predict(context) for every in (2, 3, 4)]
    assert 1 < found[0].gain < found[1].gain < found[2].gain
    assert all(p.gain <= p.bound < every for p, every in zip(found, (2, 3, 4), strict=True))
    assert found[0].odds > found[1].odds > found[2].odds
    assert SkipFrames(2).effect == "lossy"
    assert SkipFrames(2).apply(context).detect_every == 2


def test_the_ladder_takes_skipping_back_before_the_rest(context: PlanContext) -> None:
    best = replace(context.config, detect_every=2, shape="rect")
    steps = fallbacks(context.config, context.config, best)
    assert [words for words, _ in steps] == ["frame_skip", "frame_skip and rect_letterbox"]
    assert steps[0][1] == replace(best, detect_every=1)


@pytest.mark.parametrize("frames", [None, 5000, 576, 300, 71, 12, 2, 0])
def test_runs_of_frames_share_none(frames: int | None) -> None:
    found = runs(frames)
    taken = [frame for run in found.values() for frame in run]
    assert len(taken) == len(set(taken))
    assert max(taken, default=-1) < (10**9 if frames is None else max(frames, 1))
    assert len(found["selection"]) == len(found["report"]) <= RUN
    if frames is None or frames > CALIBRATION_RUN + 2 * RUN:
        assert (len(found["calibration"]), len(found["report"])) == (CALIBRATION_RUN, RUN)


def test_only_tracking_has_a_tracker(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    settings = {"model": str(model), "tracker": {"lost_frames": 9}}
    plain = naive(make_spec({**settings, "task": "detection"}), model_file(model), describe(model))
    tracked = naive(make_spec({**settings, "task": "tracking"}), model_file(model), describe(model))
    assert plain.tracker is None
    assert tracked.tracker == TrackerOptions(lost_frames=9)


def test_the_draft_names_the_tracker(tmp_path: Path) -> None:
    text, _ = draft_spec(write_model(tmp_path), None, None, task="tracking")
    assert "task: tracking" in text
    assert f"#   lost_frames: {TrackerOptions().lost_frames}" in text
    assert "tracker" not in draft_spec(write_model(tmp_path), None, None)[0]


def test_agreement_without_labels_is_on_frames_in_a_row(tmp_path: Path) -> None:
    pytest.importorskip("trackers")
    model, video = write_model(tmp_path), write_video(tmp_path / "v.mp4", 30)
    options = {"high_score": 0.5, "new_track_score": 0.5}
    spec = make_spec({"model": str(model), "task": "tracking", "tracker": options})
    subject = Subject(naive(spec, model_file(spec.model), describe(model)), str(video))
    try:
        found = {role: subject.watch(40, role, 0.0) for role in ("selection", "report")}
    finally:
        subject.close()
    assert [len(tracks) for tracks in found.values()] == [12, 12]
    assert all((tracks.track_ids[0] == -1).all() for tracks in found.values()), "each begins anew"
    assert any((ids > 0).any() for ids in found["report"].track_ids)
