"""Decodes of boxes that the graph gives, against plain loops and cases known by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from saccade.models.description import BoxOutputs
from saccade.pipeline.geometry import letterbox
from saccade.tasks.box_decode import box_decode, corners
from saccade.tasks.contract import Postprocessor
from saccade.tasks.detection import DetectionTask
from saccade.testing.tiny_models import tiny_config

HW = (64, 96)
BOX = letterbox((128, 192), 96, 32, "rect", "top_left")
Found = list[tuple[tuple[float, ...], float, int]]

specs = st.builds(
    BoxOutputs,
    box_format=st.sampled_from(["xyxy", "yxyx", "cxcywh"]),
    box_unit=st.sampled_from(["pixels", "normalized"]),
    scores_as=st.sampled_from(["probabilities", "sigmoid", "softmax"]),
    background=st.sampled_from(["none", "first", "last"]),
    multi_label=st.booleans(),
)
thresholds = st.sampled_from([0.0, 0.001, 0.3, 0.9, 1.0])


def tensors(spec: BoxOutputs, seed: int, rows: int = 40, columns: int = 4) -> list[np.ndarray]:
    """Boxes ``(1, rows, 4)`` and scores ``(1, rows, columns)`` as ``spec`` says."""
    random = np.random.default_rng(seed)
    boxes = random.random((1, rows, 4)) * (1 if spec.box_unit == "normalized" else 60)
    scores = random.normal(0, 2, (1, rows, columns))
    if spec.scores_as == "probabilities":
        scores = random.random((1, rows, columns)) ** 4
    return [boxes.astype(np.float32), scores.astype(np.float32)]


def probability(row: np.ndarray, column: int, spec: BoxOutputs) -> float:
    if spec.scores_as == "probabilities":
        return float(row[column])
    if spec.scores_as == "sigmoid":
        return 1 / (1 + math.exp(-row[column]))
    return math.exp(row[column]) / sum(math.exp(value) for value in row)


def plain(spec: BoxOutputs, outputs: list[np.ndarray], threshold: float) -> Found:
    """The definition, one box and one class after the other."""
    found: Found = []
    boxes, scores = outputs[spec.boxes][0], outputs[spec.scores][0]
    height, width = HW if spec.box_unit == "normalized" else (1, 1)
    for box, row in zip(boxes, scores, strict=True):
        first, second, third, fourth = map(float, box)
        if spec.box_format == "yxyx":
            first, second, third, fourth = second, first, fourth, third
        if spec.box_format == "cxcywh":
            first, third = first - third / 2, first + third / 2
            second, fourth = second - fourth / 2, second + fourth / 2
        place = first * width, second * height, third * width, fourth * height
        real = range(spec.background == "first", len(row) - (spec.background == "last"))
        each = [
            (place, probability(row, column, spec), column - (spec.background == "first"))
            for column in real
        ]
        if not spec.multi_label:
            each = [max(each, key=lambda item: item[1])]
        found += [item for item in each if item[1] > threshold]
    return found


@settings(max_examples=150)
@given(spec=specs, seed=st.integers(0, 10**6), threshold=thresholds, first=st.booleans())
def test_dense_heads_are_the_definition(
    spec: BoxOutputs, seed: int, threshold: float, first: bool
) -> None:
    outputs = tensors(spec, seed)
    boxes, scores, class_ids = box_decode("ssd", spec, first)(outputs, threshold, HW)
    expected = plain(spec, outputs, threshold)
    assert class_ids.tolist() == [item[2] for item in expected]
    assert_allclose(scores, [item[1] for item in expected], rtol=1e-4, atol=1e-7)
    assert_allclose(
        boxes, np.reshape([item[0] for item in expected], (-1, 4)), rtol=1e-4, atol=1e-4
    )
    assert boxes.dtype == scores.dtype == np.float32


@settings(max_examples=100)
@given(spec=specs, seed=st.integers(0, 10**6), threshold=thresholds)
def test_filtering_first_finds_exactly_the_same(
    spec: BoxOutputs, seed: int, threshold: float
) -> None:
    outputs = tensors(spec, seed)
    ways = [box_decode("detr", spec, first)(outputs, threshold, HW) for first in (True, False)]
    for a, b in zip(*ways, strict=True):
        assert_array_equal(a, b)


@given(seed=st.integers(0, 10**6), threshold=thresholds)
def test_one_output_with_both_is_the_same_as_two(seed: int, threshold: float) -> None:
    spec = BoxOutputs(box_format="cxcywh", box_unit="normalized")
    apart = tensors(spec, seed)
    joined = [np.concatenate(apart, axis=2)]
    expected = box_decode("detr", spec, True)(apart, threshold, HW)
    found = box_decode("detr", replace(spec, scores=0), True)(joined, threshold, HW)
    for a, b in zip(found, expected, strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("box_format", "box"),
    [("xyxy", [10, 20, 30, 60]), ("yxyx", [20, 10, 60, 30]), ("cxcywh", [20, 40, 20, 40])],
)
@pytest.mark.parametrize("unit", ["pixels", "normalized"])
def test_conventions_by_hand(box_format: str, box: list[float], unit: str) -> None:
    values = np.array([box], np.float32)
    if unit == "normalized":
        sides = np.array([96, 64, 96, 64], np.float32)
        values = values / (sides[[1, 0, 3, 2]] if box_format == "yxyx" else sides)
    spec = BoxOutputs(box_format=box_format, box_unit=unit)  # type: ignore[arg-type]
    assert_allclose(corners(values, spec, HW), [[10, 20, 30, 60]], rtol=1e-6)


def test_finished_rows_with_padding() -> None:
    rows = np.zeros((1, 4, 6), np.float32)
    rows[0, 0] = [1, 2, 3, 4, 0.4, 1]
    rows[0, 1] = [5, 6, 7, 8, 0.9, 0]
    rows[0, 2] = [5, 6, 7, 8, 0.8, -1]  # a row without a detection, as TensorRT marks it
    boxes, scores, class_ids = box_decode("nms_inside", BoxOutputs(scores=0), True)([rows], 0.3, HW)
    assert boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert_allclose(scores, [0.4, 0.9])
    assert class_ids.tolist() == [1, 0]


@pytest.mark.parametrize("count", [2, 0])
def test_finished_rows_with_the_number_of_the_image(count: int) -> None:
    rows = np.array([[0, 1, 2, 3, 4, 7, 0.4], [0, 5, 6, 7, 8, 1, 0.9]], np.float32)[:count]
    spec = BoxOutputs(scores=0, row="batch_box_label_score")
    boxes, scores, class_ids = box_decode("nms_inside", spec, True)([rows], 0.3, HW)
    assert boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]][:count]
    assert_allclose(scores, np.float32([0.4, 0.9])[:count])
    assert class_ids.tolist() == [7, 1][:count]


@pytest.mark.parametrize("batch", [True, False])
def test_finished_outputs_apart(batch: bool) -> None:
    """TensorFlow's way: normalized yxyx, classes from 1, and how many rows count."""
    boxes = np.array([[0, 0, 0.5, 1], [0, 0, 1, 1], [0, 0, 1, 1]], np.float32)
    labels = np.array([1, 3, 2], np.int32 if batch else np.float32)
    scores, count = np.array([0.9, 0.5, 0.7], np.float32), np.array([2], np.float32)
    outputs = [boxes, labels, scores]
    if batch:
        outputs = [value[None] for value in outputs]
    spec = BoxOutputs(0, 2, 1, 3, box_format="yxyx", box_unit="normalized", first_label=1)
    found = box_decode("nms_inside", spec, True)([*outputs, count], 0.1, HW)
    assert_allclose(found[0], [[0, 0, 96, 32], [0, 0, 96, 64]])
    assert_allclose(found[1], [0.9, 0.5])
    assert found[2].tolist() == [0, 2]


def test_finished_without_labels_are_of_the_only_class() -> None:
    outputs = [np.ones((2, 4), np.float32), np.array([0.5, 0.6], np.float32)]
    found = box_decode("nms_inside", BoxOutputs(first_label=1), True)(outputs, 0.1, HW)
    assert found[2].tolist() == [0, 0]


def test_half_precision_is_decoded_as_single() -> None:
    spec = BoxOutputs(scores_as="sigmoid")
    outputs = [value.astype(np.float16) for value in tensors(spec, 1)]
    boxes, scores, _ = box_decode("ssd", spec, True)(outputs, 0.1, HW)
    assert boxes.dtype == scores.dtype == np.float32


def postprocessor(folder: Path, decode: str, nms: str, **outputs: object) -> Postprocessor:
    base = tiny_config(folder, score_threshold=0.3, max_detections=3)
    spec = BoxOutputs(**outputs)  # type: ignore[arg-type]
    description = replace(base.description, decode=decode, outputs=spec)
    return DetectionTask.postprocessor(replace(base, description=description, nms=nms))


EQUAL = np.tile(np.float32([8, 8, 40, 40]), (1, 5, 1))
RISING = np.float32([[[0.1, 0], [0.5, 0], [0.6, 0], [0.7, 0], [0.8, 0]]])


@pytest.mark.parametrize("nms", ["loop", "vectorized", "top_k"])
def test_anchors_are_suppressed_and_queries_are_not(nms: str, tmp_path: Path) -> None:
    anchors = postprocessor(tmp_path, "ssd", nms)([EQUAL, RISING], BOX)
    assert_allclose(anchors.scores, [0.8])
    queries = postprocessor(tmp_path, "detr", nms)([EQUAL, RISING], BOX)
    assert_allclose(queries.scores, [0.8, 0.7, 0.6])  # best first, and no more than allowed
    assert_allclose(queries.boxes[0], [16, 16, 80, 80])


@settings(max_examples=40)
@given(spec=specs, seed=st.integers(0, 10**6), data=st.data())
def test_garbage_is_survived_and_both_ways_agree(
    spec: BoxOutputs, seed: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A model that overflowed in low precision; warnings are errors here."""
    outputs = tensors(spec, seed)
    garbage = st.sampled_from([np.nan, np.inf, -np.inf, 3e38, -3e38])
    for output in outputs:
        for place in data.draw(st.lists(st.integers(0, output.size - 1), max_size=6)):
            output.reshape(-1)[place] = data.draw(garbage)
    folder = tmp_path_factory.getbasetemp()
    fields = {name: getattr(spec, name) for name in spec.__dataclass_fields__}
    for nms in ("loop", "vectorized"):
        found = postprocessor(folder, "ssd", nms, **fields)(outputs, BOX)
        assert np.isfinite(found.boxes).all() and np.isfinite(found.scores).all()
        assert set(found.class_ids.tolist()) <= set(range(4))


def test_finished_garbage_is_survived(tmp_path: Path) -> None:
    rows = np.full((1, 3, 6), np.nan, np.float32)
    rows[0, 0] = [1, 2, 30, 40, 0.9, np.nan]
    rows[0, 1] = [1, 2, 30, 40, 0.8, 1]
    found = postprocessor(tmp_path, "nms_inside", "loop", scores=0)([rows], BOX)
    assert_allclose(found.scores, [0.8])
