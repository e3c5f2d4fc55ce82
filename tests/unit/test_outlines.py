"""Outlines: run lengths of one object, as pycocotools reads them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from saccade.data.outlines import from_coco, from_crop, from_polygons


@given(st.integers(1, 25), st.integers(1, 25), st.integers(0, 10_000))
def test_a_crop_becomes_the_runs_of_its_whole_mask(height: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    top, left = int(random.integers(0, height)), int(random.integers(0, width))
    shape = int(random.integers(0, height - top + 1)), int(random.integers(0, width - left + 1))
    crop = random.random(shape) < random.random()
    whole = np.zeros((height, width), np.bool_)
    whole[top : top + shape[0], left : left + shape[1]] = crop
    outline = from_crop(crop, (top, left), (height, width))
    assert np.array_equal(outline.pixels(), whole)
    assert outline.area == whole.sum()
    expected = coco.encode(np.asfortranarray(whole.astype(np.uint8)))["counts"]
    assert outline.counts == expected


def test_polygons_are_filled() -> None:
    square = np.array([[2.0, 3], [8, 3], [8, 9], [2, 9]])
    outline = from_polygons([square], 20, 10)
    assert outline.pixels()[3:9, 2:8].all() and outline.area == 36
    both = from_polygons([square, square + np.array([10, 0])], 20, 10)
    assert both.area == 72


def test_corners_far_outside_are_moved_in() -> None:
    huge = np.array([[-1e8, -1e8], [1e8, -1e8], [1e8, 1e8], [-1e8, 1e8]])
    assert from_polygons([huge], 20, 10).area == 200


def test_coco_segmentations_of_every_kind_are_read() -> None:
    pixels = np.zeros((10, 20), np.uint8)
    pixels[3:9, 2:8] = 1
    packed = coco.encode(np.asfortranarray(pixels))
    flat = pixels.ravel(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    plain = np.diff([0, *ends, flat.size]).tolist()
    for given_ in (
        [[2, 3, 8, 3, 8, 9, 2, 9]],
        {"size": [10, 20], "counts": packed["counts"].decode()},
        {"size": [10, 20], "counts": plain},
    ):
        assert np.array_equal(from_coco(given_, 20, 10).pixels(), pixels)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (None, "neither polygons nor run lengths"),
        ({"size": [1, 1], "counts": [1]}, "not for 10x20"),
        ([[1, 2, 3]], "polygon of 3 numbers"),
        ([["a", 2, 3, 4, 5, 6]], "no list of numbers"),
        ([[float("nan")] * 6], "not finite"),
        ({"size": [10, 20], "counts": [5, 500]}, "do not add up"),
        ([], "neither polygons nor run lengths"),
        ({"size": [10, 20], "counts": 7}, "neither a list nor a string"),
        ({"size": [10, 20], "counts": "zzzz"}, "do not add up"),
    ],
)
def test_what_is_no_segmentation_is_refused(bad: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_coco(bad, 20, 10)
