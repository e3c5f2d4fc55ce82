"""Accuracy and its replicates equal COCOeval's, crowds included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from detection_scenes import labelled, scene
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.data.contract import Dataset
from saccade.errors import DataError
from saccade.tasks.detections import Detections
from saccade.validate.bootstrap import class_aps, mean_of_present, replicates, resample_weights
from saccade.validate.detection_metrics import evaluate


def _truth_as_detections(dataset: Dataset) -> Detections:
    return Detections.of((i.boxes, np.full(len(i.boxes), 0.9), i.class_ids) for i in dataset.images)


def test_finding_everything_is_one_and_nothing_is_zero(capsys: pytest.CaptureFixture[str]) -> None:
    dataset, _ = scene(1, crowds=False)
    assert evaluate(dataset, _truth_as_detections(dataset)).map50_95 == pytest.approx(1)
    nothing = Detections.of((np.zeros((0, 4)), [], []) for _ in dataset.images)
    accuracy = evaluate(dataset, nothing)
    assert accuracy.map50_95 == 0
    assert set(accuracy.per_class.values()) == {0.0}
    assert capsys.readouterr().out == ""


def test_a_hand_computed_ap() -> None:
    dataset, _ = scene(1, images=1, classes=1, crowds=False)
    box = np.array([[10, 10, 50, 50], [100, 100, 150, 150]], np.float32)
    image = replace(
        dataset.images[0], boxes=box, class_ids=np.zeros(2, np.int64), crowd=np.zeros(2, bool)
    )
    far = [[160, 10, 190, 40]]
    found = Detections.of([(np.concatenate([box[:1], far, box[1:]]), [0.9, 0.8, 0.7], [0, 0, 0])])
    # Precision is 1 up to recall 0.5 (51 of 101 points) and 2/3 after it.
    expected = (51 + 50 * 2 / 3) / 101
    assert evaluate(labelled([image]), found).map50_95 == pytest.approx(expected)


def test_a_crowd_is_neither_right_nor_wrong() -> None:
    dataset, _ = scene(1, images=1, classes=1, crowds=False)
    box = np.array([[10, 10, 50, 50], [100, 100, 180, 180]], np.float32)
    image = replace(
        dataset.images[0],
        boxes=box,
        class_ids=np.zeros(2, np.int64),
        crowd=np.array([False, True]),
    )
    inside = [[110, 110, 130, 130], [140, 140, 170, 170]]
    found = Detections.of([(np.concatenate([inside, box[:1]]), [0.9, 0.8, 0.7], [0, 0, 0])])
    accuracy = evaluate(labelled([image]), found)
    assert accuracy.map50_95 == pytest.approx(1)
    assert accuracy.matches[0].objects.tolist() == [1]


def test_unlabelled_foreign_and_empty_data_are_refused() -> None:
    dataset, found = scene(1)
    with pytest.raises(DataError, match="has no labels"):
        evaluate(replace(dataset, labelled=False), found)
    with pytest.raises(DataError, match="Run the system again"):
        evaluate(replace(dataset, images=dataset.images[:-1]), found)
    empty = [
        replace(i, boxes=i.boxes[:0], class_ids=i.class_ids[:0], crowd=i.crowd[:0])
        for i in dataset.images
    ]
    with pytest.raises(DataError, match="no labelled object"):
        evaluate(labelled(empty), found)
    with pytest.raises(DataError, match="no labelled object"):
        evaluate(labelled([]), Detections.of([]))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_weight_one_reproduces_cocoeval(seed: int) -> None:
    dataset, found = scene(seed)
    accuracy = evaluate(dataset, found)
    strict, loose = class_aps(accuracy, np.ones((1, len(dataset)), np.int64))
    assert strict[0] == pytest.approx(list(accuracy.per_class.values()), abs=1e-12)
    assert mean_of_present(strict)[0] == pytest.approx(accuracy.map50_95, abs=1e-12)
    assert mean_of_present(loose)[0] == pytest.approx(accuracy.map50, abs=1e-12)


@given(seed=st.integers(0, 10_000), counts=st.lists(st.integers(0, 4), min_size=8, max_size=8))
@settings(max_examples=40, deadline=None)
def test_weights_are_repeated_images(seed: int, counts: list[int]) -> None:
    dataset, found = scene(seed)
    order = np.repeat(np.arange(8), counts)
    repeated = labelled([dataset.images[i] for i in order])
    strict, loose = class_aps(evaluate(dataset, found), np.array([counts]))
    if not any((~image.crowd).any() for image in repeated.images):
        assert np.isnan(mean_of_present(strict)).all()
        return
    literal = evaluate(
        repeated,
        Detections.of((found.boxes[i], found.scores[i], found.class_ids[i]) for i in order),
    )
    assert mean_of_present(strict)[0] == pytest.approx(literal.map50_95, abs=1e-12)
    assert mean_of_present(loose)[0] == pytest.approx(literal.map50, abs=1e-12)


def test_replicates_leave_each_image_out_once() -> None:
    dataset, found = scene(5)
    accuracy = evaluate(dataset, found)
    both = replicates(accuracy, resample_weights(8, 20))
    assert both.map50_95.drawn.shape == (20,)
    assert both.map50_95.left_out.shape == (8,)
    without_first = labelled(list(dataset.images[1:]))
    rest = Detections(found.boxes[1:], found.scores[1:], found.class_ids[1:])
    expected = evaluate(without_first, rest).map50
    assert both.map50.left_out[0] == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="expected"):
        replicates(accuracy, resample_weights(7, 20))


def test_slices_of_resamples_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    accuracy = evaluate(*scene(6))
    weights = resample_weights(8, 23)
    whole = replicates(accuracy, weights).map50_95.drawn
    monkeypatch.setattr("saccade.validate.bootstrap._CELLS", 40)
    assert replicates(accuracy, weights).map50_95.drawn == pytest.approx(whole, abs=1e-12)


def test_resample_weights_are_reproducible() -> None:
    weights = resample_weights(30, 50, seed=1)
    assert (weights.sum(axis=1) == 30).all()
    assert (weights == resample_weights(30, 50, seed=1)).all()
    assert not (weights == resample_weights(30, 50, seed=2)).all()
    with pytest.raises(ValueError, match="at least one image"):
        resample_weights(0)
