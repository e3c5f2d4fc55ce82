"""Masks from prototypes: both ways agree, and lie where they should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.pipeline.geometry import Letterbox, letterbox, stretched
from saccade.tasks.box_masks import BoxMasks
from saccade.tasks.mask_decode import METHODS, covered, cropped_masks, whole_masks

# Logits of both ways differ by rounding, so a pixel may differ where its logit is this small.
ROUNDING = 1e-4


def scene(seed: int, box: Letterbox, count: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prototypes, coefficients, and boxes within the frame."""
    random = np.random.default_rng(seed)
    height, width = box.input_hw[0] // 4, box.input_hw[1] // 4
    prototypes = random.normal(size=(5, height, width)).astype(np.float32)
    coefficients = random.normal(size=(count, 5)).astype(np.float32)
    corners = random.uniform(0, 1, (2, count, 2))
    unit = np.concatenate([corners.min(axis=0), corners.max(axis=0)], axis=1)
    boxes = (unit * (box.frame_hw[::-1] * 2)).astype(np.float32)
    return prototypes, coefficients, boxes


def logits_by_hand(prototypes: np.ndarray, coefficients: np.ndarray, box: Letterbox) -> np.ndarray:
    """Bilinear interpolation at the centres of the frame's pixels, in plain NumPy, ``(N, H, W)``.

    Cells that the frame does not touch are not looked at.
    """
    logits = np.einsum("nk,khw->nhw", coefficients.astype(np.float64), prototypes)
    for axis, border in ((1, box.top), (2, box.left)):
        side, cells = box.frame_hw[axis - 1], prototypes.shape[axis]
        ratio = cells / box.input_hw[axis - 1]
        first = int(np.floor(border * ratio))
        last = int(np.ceil((border + box.scaled_hw[axis - 1]) * ratio)) - 1
        pixels = (np.arange(side) + 0.5) * box.scaled_hw[axis - 1] / side + border
        places = np.clip(pixels * ratio - 0.5, first, min(last, cells - 1))
        low = np.clip(np.floor(places).astype(int), 0, max(0, cells - 2))
        shape = [1, 1, 1]
        shape[axis] = side
        share = (places - low).reshape(shape)
        upper = np.minimum(low + 1, cells - 1)
        logits = np.take(logits, low, axis) * (1 - share) + np.take(logits, upper, axis) * share
    return logits


geometries = st.builds(
    letterbox,
    frame_hw=st.tuples(st.integers(8, 150), st.integers(8, 150)),
    input_size=st.just(64),
    stride=st.just(32),
    shape=st.sampled_from(["square", "rect"]),
    anchor=st.sampled_from(["center", "top_left"]),
)


@given(geometries, st.integers(0, 1000))
def test_the_fast_way_gives_the_masks_of_the_common_one(box: Letterbox, seed: int) -> None:
    prototypes, coefficients, boxes = scene(seed, box)
    common = whole_masks(prototypes, coefficients, boxes, box)
    fast = cropped_masks(prototypes, coefficients, boxes, box)
    assert np.array_equal(common.corners, fast.corners)
    assert [a.shape for a in common.crops] == [b.shape for b in fast.crops]
    decided = np.abs(logits_by_hand(prototypes, coefficients, box)) > ROUNDING
    assert not ((common.dense() != fast.dense()) & decided).any()


@pytest.mark.parametrize("method", METHODS)
@given(geometries, st.integers(0, 1000))
def test_masks_are_what_interpolation_by_hand_gives(method: str, box: Letterbox, seed: int) -> None:
    prototypes, coefficients, boxes = scene(seed, box)
    found = METHODS[method](prototypes, coefficients, boxes, box).dense()
    logits = logits_by_hand(prototypes, coefficients, box)
    inside = np.zeros_like(found)
    for mask, (top, left, bottom, right) in zip(inside, covered(boxes, box.frame_hw), strict=True):
        mask[top:bottom, left:right] = True
    wrong = found != ((logits > 0) & inside)
    # OpenCV 4 places pixels on a grid of a 32nd of a cell.
    assert not (wrong & (np.abs(logits) > 0.25)).any()
    assert wrong.mean() <= 0.02


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_mask_fills_its_box_and_nothing_else(method: str) -> None:
    box = letterbox((90, 160), 64, 32, "square", "center")
    boxes = np.array([[10.2, 20.0, 50.0, 60.5], [0, 0, 160, 90], [5.1, 5, 5.9, 9]], np.float32)
    prototypes = np.ones((1, 16, 16), np.float32)
    masks = METHODS[method](prototypes, np.ones((3, 1), np.float32), boxes, box)
    assert masks.dense()[0].sum() == masks.areas[0] == 39 * 41
    assert masks[0][20:61, 11:50].all()
    assert masks[1].all()
    assert masks.areas[2] == 0
    negative = METHODS[method](prototypes, -np.ones((3, 1), np.float32), boxes, box)
    assert not negative.dense().any()


@pytest.mark.parametrize("method", METHODS)
def test_an_edge_lies_where_the_map_has_it(method: str) -> None:
    prototypes = np.full((1, 16, 16), -1, np.float32)
    prototypes[:, :, 8:] = 1
    box = stretched((64, 128), (64, 64))
    whole = np.array([[0, 0, 128, 64]], np.float32)
    mask = METHODS[method](prototypes, np.ones((1, 1), np.float32), whole, box)[0]
    assert mask[:, 64:].all() and not mask[:, :64].any()


@pytest.mark.parametrize("method", METHODS)
def test_no_boxes_are_no_masks(method: str) -> None:
    box = stretched((64, 128), (64, 64))
    none = np.zeros((0, 4), np.float32)
    found = METHODS[method](
        np.ones((3, 16, 16), np.float32), np.zeros((0, 3), np.float32), none, box
    )
    assert len(found) == 0
    assert found.dense().shape == (0, 64, 128)


def test_masks_behave_as_an_array_that_takes_little_memory() -> None:
    crops = (np.ones((2, 3), np.bool_), np.eye(4, dtype=np.bool_))
    masks = BoxMasks((1080, 1920), np.array([[5, 7], [0, 0]]), crops)
    dense = np.asarray(masks)
    assert dense.shape == (2, 1080, 1920) and dense.dtype == np.bool_
    assert dense[0].sum() == 6 and dense[0][5:7, 7:10].all()
    assert np.array_equal(masks[1], dense[1]) and np.array_equal(masks[-1], dense[1])
    assert [mask.sum() for mask in masks] == [6, 4]
    assert masks[1:].areas.tolist() == [4]
    assert sum(crop.nbytes for crop in masks.crops) == 22
    for outline, mask in zip(masks.outlines(), dense, strict=True):
        assert np.array_equal(outline.pixels(), mask)
    assert len(BoxMasks.empty((4, 4))) == 0
    with pytest.raises(ValueError, match="copy"):
        np.asarray(masks, copy=False)
