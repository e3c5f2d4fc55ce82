"""Decodes: filtering first changes nothing, and no output of a model breaks them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from saccade.errors import ModelError
from saccade.models.raw_head import RAW_DECODES
from saccade.pipeline.geometry import letterbox
from saccade.tasks.contract import Postprocessor
from saccade.tasks.detection import DetectionTask
from saccade.tasks.detection_decode import DECODES, YOLOX_STRIDES, yolox_grid
from saccade.tasks.detections import Detections
from saccade.tasks.results import DetectionResult
from saccade.testing.tiny_models import tiny_config

HW = (64, 96)
CELLS = sum(HW[0] // s * (HW[1] // s) for s in YOLOX_STRIDES)
CLASSES = 3
WHOLE = [name for name in DECODES if name not in RAW_DECODES.values()]
BOX = letterbox((128, 192), 96, 32, "rect", "top_left")


def raw(decode: str, seed: int, cells: int = CELLS) -> np.ndarray:
    """Outputs as a model of the family gives them: pixels or offsets, scores between 0 and 1."""
    random = np.random.default_rng(seed)
    boxes = random.random((cells, 4)) * (3 if decode == "yolox" else 60)
    columns = CLASSES if decode == "yolov8" else CLASSES + 1
    scores = random.random((cells, columns)) ** 4
    rows = np.concatenate([boxes, scores], axis=1).astype(np.float32)
    return rows.T[None] if decode == "yolov8" else rows[None]


def postprocessors(folder: Path, decode: str, **described: object) -> dict[str, Postprocessor]:
    base = tiny_config(folder, score_threshold=0.3)
    description = replace(base.description, decode=decode, **described)  # type: ignore[arg-type]
    return {
        nms: DetectionTask.postprocessor(replace(base, description=description, nms=nms))  # type: ignore[arg-type]
        for nms in ("loop", "vectorized")
    }


def assert_same(a: DetectionResult, b: DetectionResult) -> None:
    assert_array_equal(a.boxes, b.boxes)
    assert_array_equal(a.scores, b.scores)
    assert_array_equal(a.class_ids, b.class_ids)


@pytest.mark.parametrize("decode", WHOLE)
@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.0, 0.001, 0.3, 0.9, 1.0]))
def test_filtering_first_finds_the_same(decode: str, seed: int, threshold: float) -> None:
    first, common = DECODES[decode]
    outputs = [raw(decode, seed)]
    for a, b in zip(first(outputs, threshold, HW), common(outputs, threshold, HW), strict=True):
        assert_array_equal(a, b)
        assert a.dtype == b.dtype


@pytest.mark.parametrize("decode", WHOLE)
def test_everything_found_is_above_the_threshold(decode: str) -> None:
    boxes, scores, class_ids = DECODES[decode][0]([raw(decode, 1)], 0.3, HW)
    assert 0 < len(boxes) == len(scores) == len(class_ids) < CELLS
    assert scores.min() > 0.3
    assert set(class_ids) <= set(range(CLASSES))


@pytest.mark.parametrize("decode", WHOLE)
@pytest.mark.parametrize("way", [0, 1])
def test_nothing_above_the_threshold(decode: str, way: int) -> None:
    boxes, scores, class_ids = DECODES[decode][way]([raw(decode, 1)], 2.0, HW)
    assert boxes.shape == (0, 4)
    assert scores.shape == class_ids.shape == (0,)


def test_yolov8_by_hand() -> None:
    outputs = np.zeros((1, 6, 2), np.float32)
    outputs[0, :, 1] = [20, 10, 8, 4, 0.2, 0.7]
    boxes, scores, class_ids = DECODES["yolov8"][0]([outputs], 0.5, HW)
    assert_allclose(boxes, [[16, 8, 24, 12]])
    assert_allclose(scores, [0.7])
    assert class_ids.tolist() == [1]


def test_yolov5_by_hand() -> None:
    outputs = np.array([[[20, 10, 8, 4, 0.5, 0.2, 0.8], [20, 10, 8, 4, 0.4, 0.9, 0.9]]], np.float32)
    boxes, scores, class_ids = DECODES["yolov5"][0]([outputs], 0.39, HW)
    assert_allclose(boxes, [[16, 8, 24, 12]])
    assert_allclose(scores, [0.4])
    assert class_ids.tolist() == [1]


def test_yolox_by_hand() -> None:
    """The first cell of the second level lies at (0, 0) with stride 16."""
    outputs = np.zeros((1, CELLS, 6), np.float32)
    second_level = HW[0] // 8 * (HW[1] // 8)
    outputs[0, second_level + 1] = [0.5, 0.25, np.log(2), 0, 0.8, 1]
    boxes, scores, _ = DECODES["yolox"][0]([outputs], 0.5, HW)
    # Centre (1.5, 0.25) cells, size (2, 1) cells, sixteen pixels each.
    assert_allclose(boxes, [[8, -4, 40, 12]], rtol=1e-6)
    assert_allclose(scores, [0.8])


def test_the_grid_has_a_cell_for_every_output() -> None:
    grid, stride = yolox_grid(HW)
    assert grid.shape == (CELLS, 2)
    assert sorted(set(stride[:, 0])) == list(YOLOX_STRIDES)
    assert (grid * stride).max(axis=0).tolist() == [HW[1] - 8, HW[0] - 8]


@pytest.mark.parametrize("decode", WHOLE)
def test_a_transposed_output_gives_the_same(decode: str, tmp_path: Path) -> None:
    outputs = raw(decode, 3)
    straight = postprocessors(tmp_path, decode)
    turned = postprocessors(tmp_path, decode, transposed=True)
    for nms in straight:
        expected = straight[nms]([outputs], BOX)
        assert len(expected) > 0
        assert_same(turned[nms]([np.ascontiguousarray(outputs.swapaxes(1, 2))], BOX), expected)


@pytest.mark.parametrize("decode", WHOLE)
@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), data=st.data())
def test_garbage_is_survived_and_both_ways_agree(
    decode: str, seed: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A model that overflowed in low precision; warnings are errors here."""
    outputs = raw(decode, seed)
    flat = outputs.reshape(-1)
    garbage = st.sampled_from([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e30])
    for place in data.draw(st.lists(st.integers(0, flat.size - 1), max_size=12)):
        flat[place] = data.draw(garbage)
    folder = tmp_path_factory.getbasetemp()
    loop, vectorized = postprocessors(folder, decode).values()
    a, b = loop([outputs], BOX), vectorized([outputs], BOX)
    assert np.isfinite(a.boxes).all()
    assert np.isfinite(a.scores).all()
    scores = outputs[0, 4:] if decode == "yolov8" else outputs[0, :, 4:]
    if not (scores > 1).any():  # filtering by objectness first rests on class scores of at most 1
        assert_same(a, b)


@pytest.mark.parametrize("decode", WHOLE)
def test_nothing_but_nan_is_nothing_found(decode: str, tmp_path: Path) -> None:
    outputs = np.full_like(raw(decode, 0), np.nan)
    for postprocess in postprocessors(tmp_path, decode).values():
        result = postprocess([outputs], BOX)
        assert len(result) == 0
        assert result.boxes.shape == (0, 4)


def test_results_are_sorted_limited_and_own_their_memory(tmp_path: Path) -> None:
    outputs = raw("yolov8", 5)
    for postprocess in postprocessors(tmp_path, "yolov8").values():
        result = postprocess([outputs], BOX)
        before = result.boxes.copy()
        outputs_after = outputs.copy()
        outputs[:] = 0  # what a runtime does to its buffers after `release`
        assert_array_equal(result.boxes, before)
        outputs[:] = outputs_after
        assert (np.diff(result.scores) <= 0).all()
        assert result.boxes.dtype == result.scores.dtype == np.float32
        assert result.class_ids.dtype == np.int64
        assert (result.boxes <= [192, 128, 192, 128]).all()


def test_an_unknown_decode_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="yolov8"):
        postprocessors(tmp_path, "retina")


def test_drawing_leaves_the_image_alone(tmp_path: Path) -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    found = DetectionResult(
        np.float32([[5, 5, 30, 30], [-3, 0, 70, 50]]), np.float32([0.9, 0.5]), np.array([1, 7])
    )
    drawn = DetectionTask.draw(image, found, ("cat", "dog"))
    assert not image.any()
    assert drawn.any()


def test_boxes_of_equal_scores_may_change_places() -> None:
    boxes = np.float32([[5, 5, 30, 30], [40, 0, 70, 50], [6, 5, 30, 30]])
    classes = np.array([1, 7, 1])

    def of(order: list[int], scores: tuple[float, ...] = (0.5, 0.5, 0.5)) -> Detections:
        found = DetectionResult(boxes[order], np.float32(scores), classes[order])
        return DetectionTask.collect([found])

    assert DetectionTask.same(of([0, 1, 2]), of([1, 2, 0]))
    assert not DetectionTask.same(of([0, 1, 2]), of([0, 1, 1]))
    assert not DetectionTask.same(of([0, 1, 2]), of([0, 1, 2], (0.6, 0.5, 0.5)))
    assert DetectionTask.same(of([], ()), of([], ()))
