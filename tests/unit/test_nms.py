"""All suppressions against each other, a brute-force reference and cases known by hand."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from saccade.tasks import nms
from saccade.tasks.nms import METHODS, iou_matrix, nms_loop, nms_top_k, nms_vectorized

Scene = tuple[np.ndarray, np.ndarray, np.ndarray]


@st.composite
def scenes(draw: st.DrawFn, most: int = 40) -> Scene:
    """Boxes on a coarse grid, so that equal scores, equal boxes and exact IoUs are common."""
    count = draw(st.integers(0, most))
    corner = st.tuples(st.integers(0, 12), st.integers(0, 12))
    size = st.tuples(st.integers(0, 8), st.integers(0, 8))
    rows = [(*(c := draw(corner)), c[0] + (s := draw(size))[0], c[1] + s[1]) for _ in range(count)]
    scores = [draw(st.integers(1, 8)) / 8 for _ in range(count)]
    classes = [draw(st.integers(0, 2)) for _ in range(count)]
    return (
        np.array(rows, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(classes, np.int64),
    )


def crowd(seed: int, count: int, classes: int) -> Scene:
    random = np.random.default_rng(seed)
    corner = random.random((count, 2)) * 500
    boxes = np.concatenate([corner, corner + 20 + random.random((count, 2)) * 80], axis=1)
    scores = random.integers(1, 50, count) / 50
    return boxes.astype(np.float32), scores.astype(np.float32), random.integers(0, classes, count)


def iou_of(a: np.ndarray, b: np.ndarray) -> np.float32:
    """Of two boxes, one operation at a time in float32."""
    width = max(np.float32(0), min(a[2], b[2]) - max(a[0], b[0]))
    height = max(np.float32(0), min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    whole = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return np.float32(shared / max(whole, np.float32(1e-9)))


def brute_force(scene: Scene, iou: float, limit: int) -> list[int]:
    """The definition: best first, keep what overlaps nothing kept of its class."""
    boxes, scores, classes = scene
    kept: list[int] = []
    for index in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        rivals = [k for k in kept if classes[k] == classes[index]]
        if all(iou_of(boxes[k], boxes[index]) <= iou for k in rivals):
            kept.append(index)
    return kept[:limit]


thresholds = st.sampled_from([0.0, 0.25, 0.5, 0.7, 1.0])


@given(scenes(), thresholds, st.integers(1, 50))
def test_all_are_the_definition(scene: Scene, iou: float, limit: int) -> None:
    expected = brute_force(scene, iou, limit)
    assert nms_loop(*scene, iou, limit).tolist() == expected
    assert nms_vectorized(*scene, iou, limit).tolist() == expected
    assert nms_top_k(*scene, iou, limit).tolist() == expected


@pytest.mark.parametrize("matrix_limit", [0, 5, 512])
@given(scene=scenes(), iou=thresholds, limit=st.integers(1, 50))
def test_the_size_of_the_matrix_changes_nothing(
    matrix_limit: int, scene: Scene, iou: float, limit: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nms, "MATRIX_LIMIT", matrix_limit)
        found = nms_vectorized(*scene, iou, limit)
    assert_array_equal(found, nms_loop(*scene, iou, limit))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.sampled_from([20, 300, 3000]))
def test_crowds_are_the_same_for_all(seed: int, classes: int, limit: int) -> None:
    scene = crowd(seed, 1200, classes)
    expected = nms_loop(*scene, 0.6, limit)
    assert_array_equal(nms_vectorized(*scene, 0.6, limit), expected)
    assert_array_equal(nms_top_k(*scene, 0.6, limit), expected)


def test_the_best_are_enough_where_they_fill_the_limit() -> None:
    boxes, scores, classes = crowd(2, 4000, 3)
    looked_at: list[int] = []

    def watched(boxes: np.ndarray, *rest: Any) -> np.ndarray:
        looked_at.append(len(boxes))
        return nms_vectorized(boxes, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nms, "nms_vectorized", watched)
        found = nms_top_k(boxes, scores, classes, 0.6, 50)
    assert_array_equal(found, nms_loop(boxes, scores, classes, 0.6, 50))
    assert max(looked_at) < 1000


def test_memory_does_not_grow_with_the_square_of_one_class() -> None:
    """A model that is unsure of everything gives thousands of candidates of one class."""
    import tracemalloc

    scene = crowd(1, 8400, 1)
    tracemalloc.start()
    nms_vectorized(*scene, 0.7, 300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # the matrix alone would be 8400 * 8400 * 4 bytes


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
class TestKnownCases:
    def test_nothing(self, method: nms.Suppress) -> None:
        empty = np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64)
        found = method(*empty, 0.5, 10)
        assert found.tolist() == []
        assert found.dtype == np.int64

    def test_equal_boxes_of_one_class_leave_the_best(self, method: nms.Suppress) -> None:
        boxes = np.array([[0, 0, 4, 4]] * 3, np.float32)
        assert method(boxes, np.float32([0.2, 0.9, 0.5]), np.zeros(3, int), 0.5, 9).tolist() == [1]

    def test_classes_do_not_disturb_one_another(self, method: nms.Suppress) -> None:
        boxes = np.array([[0, 0, 4, 4]] * 3, np.float32)
        found = method(boxes, np.float32([0.2, 0.9, 0.5]), np.arange(3), 0.5, 9)
        assert found.tolist() == [1, 2, 0]

    def test_a_tie_goes_to_the_first(self, method: nms.Suppress) -> None:
        boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 4], [50, 50, 60, 60]], np.float32)
        assert method(boxes, np.float32([0.5] * 3), np.zeros(3, int), 0.5, 9).tolist() == [0, 2]

    def test_an_overlap_of_exactly_the_threshold_stays(self, method: nms.Suppress) -> None:
        boxes = np.array([[0, 0, 2, 1], [0, 0, 1, 1]], np.float32)  # IoU 0.5
        both = np.float32([0.9, 0.8]), np.zeros(2, int)
        assert method(boxes, *both, 0.5, 9).tolist() == [0, 1]
        assert method(boxes, *both, 0.49, 9).tolist() == [0]

    def test_what_was_suppressed_suppresses_nothing(self, method: nms.Suppress) -> None:
        # A chain: the second overlaps both of its neighbours, which do not overlap each other.
        boxes = np.array([[0, 0, 10, 1], [4, 0, 14, 1], [8, 0, 18, 1]], np.float32)
        scores = np.float32([0.9, 0.8, 0.7])
        assert method(boxes, scores, np.zeros(3, int), 0.3, 9).tolist() == [0, 2]

    def test_the_limit_keeps_the_best(self, method: nms.Suppress) -> None:
        boxes = np.array([[i * 10, 0, i * 10 + 5, 5] for i in range(4)], np.float32)
        found = method(boxes, np.float32([0.1, 0.4, 0.3, 0.2]), np.arange(4) % 2, 0.5, 2)
        assert found.tolist() == [1, 2]

    def test_boxes_without_area_are_survived(self, method: nms.Suppress) -> None:
        boxes = np.zeros((3, 4), np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = method(boxes, np.float32([0.3, 0.2, 0.1]), np.zeros(3, int), 0.5, 9)
        assert found.tolist() == [0, 1, 2]


def test_iou_of_known_pairs() -> None:
    a = np.array([[0, 0, 2, 2]], np.float32)
    b = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [1, 1, 3, 3], [2, 0, 4, 2], [9, 9, 9, 9]], np.float32)
    assert_allclose(iou_matrix(a, b), [[1, 1 / 3, 1 / 7, 0, 0]], rtol=1e-6)
