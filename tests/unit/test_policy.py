"""Learning when a small look is enough: planted cases whose right policy is known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saccade.data.contract import Dataset, LabelledImage
from saccade.errors import DataError
from saccade.optimize import policy as module
from saccade.optimize.change import PlanContext
from saccade.optimize.changes.dynamic_resolution import LookTwice
from saccade.optimize.policy import STILL, Lesson, Looks, choose, learn, policies
from saccade.pipeline.config import PipelineConfig, ResolutionPolicy, TrackerOptions
from saccade.playbook.final import fallbacks
from saccade.tasks.results import DetectionResult
from saccade.testing.optimization_conformance import example_contexts
from saccade.testing.tiny_models import tiny_config

BOX = np.array([[10, 10, 60, 60]], np.float32)
AWAY = BOX + 100


def found(box: np.ndarray, score: float) -> DetectionResult:
    return DetectionResult(box, np.array([score], np.float32), np.zeros(1, np.int64))


def dataset(count: int, labelled: bool = True) -> Dataset:
    empty = np.empty((0, 4), np.float32)
    images = tuple(
        LabelledImage(
            Path(f"{i}.png"),
            200,
            200,
            BOX if labelled else empty,
            np.zeros(int(labelled), np.int64),
            np.zeros(int(labelled), np.bool_),
        )
        for i in range(count)
    )
    return Dataset("planted", images, ("thing",), labelled=labelled)


def planted(wrong_score: float, count: int = 20, every: int = 4) -> tuple[list, list]:
    """Full size is right; small looks are wrong on every fourth image, with ``wrong_score``."""
    large = [found(BOX, 0.9)] * count
    small = [found(AWAY, wrong_score) if i % every == 0 else found(BOX, 0.85) for i in range(count)]
    return small, large


@pytest.mark.parametrize("labelled", [True, False])
def test_wrong_looks_of_middling_score_are_looked_at_twice_and_no_others(labelled: bool) -> None:
    small, large = planted(0.45)
    lesson = choose(dataset(20, labelled), "detection", 320, Looks(small, large), 0.02)
    assert lesson.second_looks == 0.25 and lesson.drop == pytest.approx(0, abs=1e-9)
    assert lesson.policy.doubt_above < 0.45 < lesson.policy.sure_from <= 0.8
    assert lesson.policy.small_size == 320


def test_of_equal_policies_the_more_careful_one_is_taken() -> None:
    small, large = planted(0.45)
    lesson = choose(dataset(20), "detection", 320, Looks(small, large), 0.02)
    assert (lesson.policy.doubt_above, lesson.policy.sure_from) == (0.05, 0.8)


def test_a_small_size_that_is_always_right_needs_no_second_look() -> None:
    large = [found(BOX, 0.9)] * 8
    lesson = choose(dataset(8), "detection", 320, Looks(large, large), 0.01)
    assert lesson.second_looks == 0


def test_where_nothing_is_good_enough_the_least_loss_is_taken() -> None:
    """Wrong and certain: no limit can tell, so the search's race and judge must refuse it."""
    small, large = planted(0.95)
    lesson = choose(dataset(20), "detection", 320, Looks(small, large), 0.01)
    assert lesson.drop > 0.1


def test_some_of_the_allowed_loss_buys_fewer_second_looks() -> None:
    small, large = planted(0.45, count=40, every=8)
    strict = choose(dataset(40), "detection", 320, Looks(small, large), 0.01)
    loose = choose(dataset(40), "detection", 320, Looks(small, large), 0.9)
    assert strict.second_looks == 0.125 and loose.second_looks == 0


def moving(places: list[int]) -> list[np.ndarray]:
    """Brightness of frames in which one bright cell is at these places."""
    return [np.eye(8, dtype=np.float32)[place : place + 1] for place in places]


def test_where_nothing_moves_one_second_look_serves_many_frames() -> None:
    """Always in doubt: in a still video the first look is enough, and a move asks for another."""
    small, large = [found(AWAY, 0.45)] * 20, [found(BOX, 0.9)] * 12 + [found(AWAY, 0.9)] * 8
    looks = Looks(small, large, moving([0] * 12 + [5] * 8))
    lesson = choose(dataset(20, labelled=False), "detection", 320, looks, 0.02)
    assert lesson.second_looks == 2 / 20 and lesson.drop == pytest.approx(0, abs=1e-9)
    # The least that tells the two scenes apart.
    assert lesson.policy.still_up_to == STILL[1]


def test_slow_changes_add_up() -> None:
    frames = [np.full((2, 2), 0.008 * i, np.float32) for i in range(10)]
    looks = Looks([found(AWAY, 0.45)] * 10, [found(BOX, 0.9)] * 10, frames)
    sources = looks.sources(ResolutionPolicy(320, 0.1, 0.8, still_up_to=0.02))
    assert sources.tolist() == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9]


def test_without_an_order_of_frames_motion_is_not_asked() -> None:
    small, large = [found(AWAY, 0.45)] * 8, [found(BOX, 0.9)] * 8
    lesson = choose(dataset(8), "detection", 320, Looks(small, large), 0.02)
    assert lesson.policy.still_up_to == 0 and lesson.second_looks == 1


def test_no_frames_teach_nothing() -> None:
    with pytest.raises(DataError, match="no frames to learn"):
        choose(dataset(1), "detection", 320, Looks([], []), 0.01)


def test_full_size_that_is_sure_of_nothing_cannot_lose_anything() -> None:
    weak = [found(BOX, 0.1)] * 4
    lesson = choose(dataset(4, labelled=False), "detection", 320, Looks(weak, weak), 0.1)
    assert lesson.drop == 0.0


def test_every_policy_leaves_room_for_doubt() -> None:
    assert all(p.doubt_above < p.sure_from for p in policies(64))
    assert len(set(policies(64))) == len(policies(64))


def again_share(details: dict[str, Any]) -> str:
    return f"{details['lesson']['second_looks']:.0%} twice"


# The change


@pytest.fixture
def context(tmp_path: Path) -> PlanContext:
    return next(example_contexts(tmp_path))


def images_in(folder: Path, count: int) -> Dataset:
    import cv2
    from tiny_system import picture

    folder.mkdir()
    for index in range(count):
        cv2.imwrite(str(folder / f"{index:02}.png"), picture(2 * index, (36, 64)))
    plain = dataset(count, labelled=False)
    paths = sorted(folder.iterdir())
    images = tuple(
        replace(image, path=path, width=64, height=36)
        for image, path in zip(plain.images, paths, strict=True)
    )
    return replace(plain, images=images)


def test_a_policy_is_learnt_once_and_used_again(
    context: PlanContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = replace(context, calibration=images_in(tmp_path / "images", 16), allowed_drop=0.2)
    change = LookTwice(0.5)
    assert change.applies(context) is None
    after = change.apply(context)
    policy = after.dynamic_resolution
    assert policy is not None and policy.small_size == 32
    assert PipelineConfig.from_dict(after.to_dict()) == after
    found, said = change.details(context), change.remark(context)
    assert found["lesson"]["policy"]["small_size"] == 32 and found["lesson"]["images"] == 16
    assert found["pays_below"] == 0.75 and json.dumps(found)
    assert "32 px first, and 64 px where a box scores between" in said
    assert f"learnt on 16 calibration images, of which it looks at {again_share(found)}" in said
    assert "it can only save where fewer than 75% of the frames need two" in said

    def must_not_run(*arguments: object) -> None:
        raise AssertionError("it was learnt before")

    monkeypatch.setattr(module, "Worker", must_not_run)
    again = learn(context, 32)
    assert isinstance(again, Lesson) and again.policy == policy
    assert change.applies(replace(context, config=after)) == "already in use"


def test_what_it_needs(context: PlanContext, tmp_path: Path) -> None:
    change = LookTwice(0.5)
    assert "no frames" in (change.applies(context) or "")  # a live stream without images
    few = replace(context, calibration=images_in(tmp_path / "images", 3))
    assert "3 calibration images are too few" in (change.applies(few) or "")
    other = replace(context, config=replace(context.config, task="classification"))
    assert "this is classification" in (change.applies(other) or "")
    tracking = replace(context.config, task="tracking", tracker=TrackerOptions())
    assert "a tracker needs" in (change.applies(replace(context, config=tracking)) or "")
    least = replace(context, config=tiny_config(tmp_path, input_size=8))
    assert "too small" in (change.applies(least) or "")


def test_the_ladder_climbs_to_a_finer_small_look_and_ends(context: PlanContext) -> None:
    finer = LookTwice(0.5).next_rung((), context)
    assert finer == LookTwice(0.7) and finer is not None
    assert finer.next_rung((), context) is None


def test_it_is_taken_back_where_unseen_data_speak_against_it(context: PlanContext) -> None:
    policy = policies(32)[0]
    config = replace(context.config, dynamic_resolution=policy)
    assert fallbacks(context.config, config, config) == [("dynamic_resolution", context.config)]
