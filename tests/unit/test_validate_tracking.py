"""The judge of tracking: TrackEval's figures, blocks of frames, and bounds that stay modest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.data.contract import Dataset, FrameOf, LabelledImage
from saccade.data.mot_text import written_rows
from saccade.errors import DataError
from saccade.tasks.results import DetectionResult
from saccade.tasks.tracks import Tracks
from saccade.validate.blocks import BLOCKS, blocks_of, unit_weights
from saccade.validate.drop_bound import paired_drop
from saccade.validate.tracking import TrackingJudge, _Judged, trackeval_metrics

trackeval = pytest.importorskip("trackeval")

SIDE = 40


def scene(frames: int = 60, objects: int = 4, source: str = "a.mp4", seed: int = 0) -> Dataset:
    """Objects that walk to and fro, some of them for a part of the time only."""
    random = np.random.default_rng(seed)
    starts, speeds = random.uniform(0, 400, (objects, 2)), random.normal(0, 4, (objects, 2))
    born = random.integers(0, max(1, frames // 3), objects)
    images = []
    for t in range(frames):
        alive = np.flatnonzero(born <= t)
        corner = starts[alive] + t * speeds[alive]
        boxes = np.concatenate([corner, corner + SIDE], axis=1).astype(np.float32)
        images.append(
            LabelledImage(
                Path(source), 500, 500, boxes, np.zeros(len(alive), np.int64),
                np.zeros(len(alive), np.bool_), track_ids=alive + 10,
                frame=FrameOf(Path(source), t),
            )
        )  # fmt: skip
    return Dataset("val", tuple(images), ("person",), True)


def tracked(
    data: Dataset, seed: int = 0, jitter: float = 4, miss: float = 0.1, switch: float = 0.02
) -> Tracks:
    """The truth with misses, jitter, switched ids and false positives."""
    random = np.random.default_rng(seed)
    names = {i: i for i in range(1000)}
    results = []
    for image in data.images:
        assert image.track_ids is not None
        if random.random() < switch:
            names = dict(zip(names, random.permutation(list(names.values())), strict=True))
        kept = random.random(len(image.boxes)) >= miss
        boxes = image.boxes[kept] + random.normal(0, jitter, (int(kept.sum()), 4))
        numbers = [names[i] + 1 for i in image.track_ids[kept].tolist()]
        if random.random() < 0.2:
            boxes = np.concatenate([boxes, [[450, 450, 480, 490]]])
            numbers.append(5000)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        results.append(
            DetectionResult(
                boxes.astype(np.float32), np.full(len(boxes), 0.9, np.float32),
                np.zeros(len(boxes), np.int64), track_ids=np.array(numbers, np.int64),
            )
        )  # fmt: skip
    return Tracks.of(results)


def without_numbers(tracks: Tracks, frames: range) -> Tracks:
    """In some frames nothing has an id."""
    ids = [
        np.full_like(ids, -1) if index in frames else ids
        for index, ids in enumerate(tracks.track_ids)
    ]
    return replace(tracks, track_ids=tuple(ids))


def joined(first: Dataset, second: Dataset) -> Dataset:
    return replace(first, images=first.images + second.images)


def both(first: Tracks, second: Tracks) -> Tracks:
    return Tracks(
        first.boxes + second.boxes,
        first.scores + second.scores,
        first.class_ids + second.class_ids,
        first.track_ids + second.track_ids,
    )


def official(folder: Path, data: dict[str, tuple[Dataset, Tracks]]) -> dict[str, float]:
    """TrackEval on MOTChallenge's file layout, read by its own reader."""
    truth, found = folder / "truth", folder / "found" / "mine" / "data"
    found.mkdir(parents=True)
    for name, (dataset, tracks) in data.items():
        (truth / name / "gt").mkdir(parents=True)
        rows = [
            f"{t + 1},{i},{b[0]:.6f},{b[1]:.6f},{b[2] - b[0]:.6f},{b[3] - b[1]:.6f},1,-1,-1,-1\n"
            for t, image in enumerate(dataset.images)
            for i, b in zip(image.track_ids, image.boxes.astype(float), strict=True)  # type: ignore[arg-type]
        ]
        (truth / name / "gt" / "gt.txt").write_text("".join(rows))
        lines = [
            line
            for t in range(len(tracks))
            for line in written_rows(t, tracks.track_ids[t], tracks.boxes[t], tracks.scores[t])
        ]
        (found / f"{name}.txt").write_text("".join(lines))
    quiet: dict[str, Any] = {"PRINT_CONFIG": False}
    evaluator = trackeval.Evaluator(
        {**quiet, "PRINT_RESULTS": False, "TIME_PROGRESS": False, "OUTPUT_SUMMARY": False,
         "OUTPUT_DETAILED": False, "PLOT_CURVES": False, "OUTPUT_EMPTY_CLASSES": False}
    )  # fmt: skip
    layout = trackeval.datasets.MotChallenge2DBox(
        {**quiet, "GT_FOLDER": str(truth), "TRACKERS_FOLDER": str(folder / "found"),
         "SKIP_SPLIT_FOL": True, "DO_PREPROC": False, "BENCHMARK": "MOT15",
         "SEQ_INFO": {name: len(dataset) for name, (dataset, _) in data.items()}}
    )  # fmt: skip
    metrics = [
        trackeval.metrics.HOTA(),
        trackeval.metrics.CLEAR(quiet),
        trackeval.metrics.Identity(quiet),
    ]
    found_all, _ = evaluator.evaluate([layout], metrics)
    result = found_all["MotChallenge2DBox"]["mine"]["COMBINED_SEQ"]["pedestrian"]
    return {
        "hota": float(result["HOTA"]["HOTA"].mean()),
        "mota": float(result["CLEAR"]["MOTA"]),
        "idf1": float(result["Identity"]["IDF1"]),
    }


def test_figures_are_those_of_trackeval_on_its_own_files(tmp_path: Path) -> None:
    first, second = scene(60, 4, "a.mp4"), scene(45, 3, "b.mp4", seed=5)
    tracks = without_numbers(tracked(first, 1), range(20, 23)), tracked(second, 2)
    expected = official(tmp_path, {"a": (first, tracks[0]), "b": (second, tracks[1])})
    data = joined(first, second)
    found = TrackingJudge.scored(data, both(*tracks), unit_weights(data)).values
    assert found == pytest.approx(expected, abs=2e-4), "files hold three decimals"
    assert 0.2 < expected["hota"] < 0.9


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), miss=st.floats(0, 0.6), switch=st.floats(0, 0.3))
def test_counts_by_block_add_up_to_trackeval(seed: int, miss: float, switch: float) -> None:
    """The replicates are of the very figure that TrackEval computes."""
    data = joined(scene(40, 5, "a.mp4", seed), scene(25, 3, "b.mp4", seed + 1))
    judged = _Judged.of(data, tracked(data, seed, miss=miss, switch=switch))
    expected = trackeval_metrics(judged.sequences)
    blocks = np.ones((1, judged.blocks), np.int64)
    objects = np.ones((1, judged.counts.objects), np.int64)
    assert judged.counts.hota(blocks, objects)[0] == pytest.approx(expected["hota"], abs=1e-9)
    assert judged.counts.idf1(blocks, objects)[0] == pytest.approx(expected["idf1"], abs=1e-9)
    truth = judged.counts.true_boxes.sum()
    assert 1 - judged.errors().sum() / truth == pytest.approx(expected["mota"], abs=1e-9)


def test_a_block_drawn_twice_is_the_block_seen_twice() -> None:
    """Weights on blocks are literally repeated frames, for objects that live within a block."""
    first, second = scene(16, 3, "a.mp4"), scene(16, 2, "b.mp4", seed=3)
    tracks = tracked(first, 1), tracked(second, 2)
    data, found = joined(first, second), both(*tracks)
    assert blocks_of(data).max() == 3
    twice = replace(data, images=data.images + tuple(
        replace(image, frame=FrameOf(Path("c.mp4"), t)) for t, image in enumerate(second.images)
    ))  # fmt: skip
    literal = TrackingJudge.scored(twice, both(found, tracks[1]), unit_weights(twice)).values
    judged = _Judged.of(data, found)
    weights = np.array([[1, 1, 2, 2]])
    objects = np.ones((1, judged.counts.objects), np.int64)
    # The same pair counted twice is one pair of twice the length, which scores the same.
    assert judged.counts.hota(weights, objects)[0] == pytest.approx(literal["hota"], abs=1e-9)
    assert judged.counts.idf1(weights, objects)[0] == pytest.approx(literal["idf1"], abs=1e-9)


def test_blocks_are_runs_that_reach_over_no_border() -> None:
    single = replace(scene(5), images=tuple(replace(i, frame=None) for i in scene(5).images))
    assert blocks_of(single).tolist() == [0, 1, 2, 3, 4], "images of their own"
    data = joined(scene(600, source="a.mp4"), scene(30, source="b.mp4"))
    blocks = blocks_of(data)
    assert (np.diff(blocks) >= 0).all()
    assert blocks[599] != blocks[600]
    assert BLOCKS - 2 <= blocks.max() + 1 <= BLOCKS + 2
    assert len(set(blocks_of(scene(20)).tolist())) == 2, "blocks are not made of a few frames"


def test_the_same_tracks_have_no_drop_and_agree() -> None:
    data = scene(80)
    found, weights = tracked(data, 1), unit_weights(data)
    scored = TrackingJudge.scored(data, found, weights)
    for metric in ("hota", "mota", "idf1"):
        drop = paired_drop(scored.metrics[metric], scored.metrics[metric])
        assert drop.estimate == 0 < drop.upper < 0.1
    agreed = TrackingJudge.agreement(data, found, found, weights)
    assert agreed.estimate == 0 < agreed.upper < 0.1


def test_a_change_of_numbers_is_no_disagreement_and_a_swap_is() -> None:
    data = scene(80)
    found, weights = tracked(data, 1, switch=0), unit_weights(data)
    renamed = replace(found, track_ids=tuple(ids + 100 for ids in found.track_ids))
    assert TrackingJudge.agreement(data, found, renamed, weights).estimate == 0
    half = tuple(ids + 100 * (t >= 40) for t, ids in enumerate(found.track_ids))
    swapped = TrackingJudge.agreement(data, found, replace(found, track_ids=half), weights)
    assert swapped.estimate > 0.3


def test_one_lost_identity_is_one_witness_however_long_it_lasts() -> None:
    """One object loses its id early on; blocks alone would call that certain."""
    data = scene(160, objects=6)
    found, weights = tracked(data, 1, jitter=1, miss=0, switch=0), unit_weights(data)
    lost = min(ids[0] for ids in found.track_ids if len(ids))
    broken = tuple(
        np.where((ids == lost) & (t >= 70), 900, ids) for t, ids in enumerate(found.track_ids)
    )
    before = TrackingJudge.scored(data, found, weights).metrics["hota"]
    after = TrackingJudge.scored(data, replace(found, track_ids=broken), weights).metrics["hota"]
    drop = paired_drop(before, after)
    assert drop.estimate > 0.02
    assert drop.lower < 0, "it may have been an accident"
    assert drop.images == 6, "as many witnesses as objects"


def test_distractors_and_boxes_without_an_id_do_not_count() -> None:
    data = scene(40, objects=3)
    found, weights = tracked(data, 1, jitter=0, miss=0, switch=0), unit_weights(data)
    images = []
    for image in data.images:
        assert image.track_ids is not None
        images.append(replace(image, crowd=image.track_ids == 10))
    ignoring = TrackingJudge.scored(replace(data, images=tuple(images)), found, weights).values
    left = [ids != 11 for ids in found.track_ids]  # the tracks of the distractor are left out
    without = Tracks(*(tuple(a[k] for a, k in zip(part, left, strict=True)) for part in (
        found.boxes, found.scores, found.class_ids, found.track_ids)))  # fmt: skip
    removed = []
    for image in data.images:
        assert image.track_ids is not None
        kept = image.track_ids != 10
        removed.append(
            replace(
                image, boxes=image.boxes[kept], class_ids=image.class_ids[kept],
                crowd=image.crowd[kept], track_ids=image.track_ids[kept],
            )
        )  # fmt: skip
    plain = TrackingJudge.scored(replace(data, images=tuple(removed)), without, weights).values
    assert ignoring == pytest.approx(plain)


def test_other_classes_match_nothing() -> None:
    data = scene(40)
    found, weights = tracked(data, 1), unit_weights(data)
    cars = replace(found, class_ids=tuple(ids + 2 for ids in found.class_ids))
    assert TrackingJudge.scored(data, cars, weights).values["hota"] == 0


def test_what_cannot_be_judged_is_refused() -> None:
    data = scene(20)
    found, weights = tracked(data, 1), unit_weights(data)
    nothing = without_numbers(found, range(20))
    assert TrackingJudge.scored(data, nothing, weights).values["hota"] == 0
    with pytest.raises(DataError, match="tracks nothing"):
        TrackingJudge.agreement(data, nothing, found, weights)
    with pytest.raises(DataError, match="results for 20 images"):
        TrackingJudge.scored(scene(21), found, unit_weights(scene(21)))
    stills = replace(data, images=tuple(replace(i, frame=None) for i in data.images))
    with pytest.raises(DataError, match="single images"):
        TrackingJudge.scored(stills, found, weights)
    with pytest.raises(ValueError, match="weights have shape"):
        TrackingJudge.scored(data, found, np.ones((5, 3), np.int64))
