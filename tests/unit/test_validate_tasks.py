"""Judges of classification and segmentation, against scikit-learn and by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.data.contract import Dataset, LabelledImage
from saccade.errors import DataError
from saccade.tasks.classification import ClassScores
from saccade.tasks.segmentation import Masks
from saccade.validate.bootstrap import resample_weights
from saccade.validate.classification import ClassificationJudge
from saccade.validate.drop_bound import paired_drop
from saccade.validate.segmentation import SegmentationJudge

metrics = pytest.importorskip("sklearn.metrics")

HW = (12, 16)


def image(path: Path, **label: Any) -> LabelledImage:
    boxes = np.zeros((0, 4), np.float32)
    none = np.zeros(0, np.int64)
    return LabelledImage(path, HW[1], HW[0], boxes, none, none.astype(bool), **label)


def dataset_of(images: list[LabelledImage], classes: int) -> Dataset:
    names = tuple(f"class_{i}" for i in range(classes))
    return Dataset("val", tuple(images), names, True, (), "digest")


def classified(labels: np.ndarray, classes: int) -> Dataset:
    return dataset_of(
        [image(Path(f"{i}.png"), label=int(c)) for i, c in enumerate(labels)], classes
    )


def segmented(folder: Path, truths: np.ndarray, classes: int, void: int = 255) -> Dataset:
    images = []
    for index, truth in enumerate(truths):
        path = folder / f"{index}.png"
        cv2.imwrite(str(path), truth.astype(np.uint8))
        images.append(image(path, mask=path, void_ids=(void,)))
    return dataset_of(images, classes)


@given(seed=st.integers(0, 10_000), classes=st.integers(6, 12))
def test_top_k_is_that_of_scikit_learn(seed: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.random((20, classes)).astype(np.float32)
    labels = random.integers(0, classes, 20)
    found = ClassificationJudge.scored(
        classified(labels, classes), ClassScores(scores), resample_weights(20, seed=0)
    )
    for name, k in (("top1", 1), ("top5", 5)):
        expected = metrics.top_k_accuracy_score(labels, scores, k=k, labels=range(classes))
        assert found.metrics[name].point == pytest.approx(expected)


def test_scores_that_are_not_numbers_are_wrong() -> None:
    labels = np.arange(6)
    scores = np.eye(6, dtype=np.float32)
    scores[:2] = np.nan
    scores[2] = 0.5
    found = ClassificationJudge.scored(
        classified(labels, 6), ClassScores(scores), resample_weights(6, seed=0)
    )
    # A tie of all classes is no answer either.
    assert found.metrics["top1"].point == pytest.approx(3 / 6)


def test_a_hundred_right_images_do_not_bound_the_drop_by_nothing() -> None:
    labels = np.arange(100) % 10
    right = ClassScores(np.eye(10, dtype=np.float32)[labels])
    data, weights = classified(labels, 10), resample_weights(100, seed=0)
    judged = ClassificationJudge.scored(data, right, weights).metrics["top1"]
    drop = paired_drop(judged, judged)
    assert drop.estimate == 0
    # Three in a hundred could go wrong without showing in a hundred: the rule of three.
    assert 0.01 < drop.upper < 0.04


@given(seed=st.integers(0, 10_000))
def test_miou_is_that_of_scikit_learn(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    random = np.random.default_rng(seed)
    truths = random.integers(0, 4, (3, *HW))
    found = np.where(random.random(truths.shape) < 0.6, truths, random.integers(0, 4, truths.shape))
    truths = np.where(random.random(truths.shape) < 0.1, 255, truths)
    data = segmented(tmp_path_factory.mktemp("masks"), truths, 4)
    outputs = Masks(tuple(found.astype(np.uint8)))
    scored = SegmentationJudge.scored(data, outputs, resample_weights(3, seed=0))
    kept = truths != 255
    each = metrics.jaccard_score(truths[kept], found[kept], average=None, labels=range(4))
    assert scored.metrics["miou"].point == pytest.approx(each.mean())
    for class_id, iou in enumerate(each):
        assert scored.per_class[class_id].point == pytest.approx(iou)


def test_a_class_without_labels_is_not_averaged_but_its_pixels_are_wrong(tmp_path: Path) -> None:
    truths = np.zeros((2, *HW), np.uint8)
    outputs = truths.copy()
    outputs[:, :6] = 3
    data = segmented(tmp_path, truths, 4)
    scored = SegmentationJudge.scored(data, Masks(tuple(outputs)), resample_weights(2, seed=0))
    assert scored.metrics["miou"].point == pytest.approx(0.5)
    assert set(scored.per_class) == {0}


def test_agreement_is_one_for_the_same_and_less_for_others(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    masks = random.integers(0, 4, (8, *HW)).astype(np.uint8)
    data, weights = segmented(tmp_path, masks, 4), resample_weights(8, seed=0)
    same = SegmentationJudge.agreement(data, Masks(tuple(masks)), Masks(tuple(masks)), weights)
    assert same.estimate == 0
    other = masks.copy()
    other[:, :3] = 0
    less = SegmentationJudge.agreement(data, Masks(tuple(masks)), Masks(tuple(other)), weights)
    assert 0 < less.estimate <= less.upper
    labels = np.arange(8)
    scores = np.eye(8, dtype=np.float32)
    loss = ClassificationJudge.agreement(
        classified(labels, 8), ClassScores(scores), ClassScores(np.roll(scores, 1, axis=0)), weights
    )
    assert loss.estimate == 1


def test_a_result_of_another_size_than_its_label_is_refused(tmp_path: Path) -> None:
    data = segmented(tmp_path, np.zeros((2, *HW), np.uint8), 4)
    outputs = Masks((np.zeros((3, 3), np.uint8),) * 2)
    with pytest.raises(DataError, match="3x3 pixels, its label 16x12"):
        SegmentationJudge.scored(data, outputs, resample_weights(2, seed=0))


def test_a_row_that_video_cannot_hold_does_not_count(tmp_path: Path) -> None:
    truths = np.zeros((2, 13, 17), np.uint8)
    outputs = Masks((np.zeros((12, 16), np.uint8),) * 2)
    data = segmented(tmp_path, truths, 2)
    scored = SegmentationJudge.scored(data, outputs, resample_weights(2, seed=0))
    assert scored.metrics["miou"].point == 1


def test_images_without_labels_cannot_be_judged() -> None:
    data = replace(classified(np.arange(4), 6), labelled=False)
    with pytest.raises(DataError):
        ClassificationJudge.scored(
            data, ClassScores(np.eye(6, dtype=np.float32)[:4]), resample_weights(4, seed=0)
        )
