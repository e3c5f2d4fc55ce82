"""Letterbox geometry: where frames lie in the input, and how boxes get back."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from saccade.pipeline.geometry import Letterbox, center_cropped, letterbox, stretched

sides = st.integers(1, 4000)
strides = st.sampled_from([1, 8, 32, 64])
anchors = st.sampled_from(["center", "top_left"])


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    stride = draw(strides)
    return {
        "frame_hw": (draw(sides), draw(sides)),
        # Multiples of the stride and others: models of any size can be described.
        "input_size": draw(st.integers(2, 20).map(lambda n: n * 32) | st.integers(64, 700)),
        "stride": stride,
        "anchor": draw(anchors),
    }


def square(**request: Any) -> Letterbox:
    return letterbox(shape="square", **request)


def rect(margin: int = 0, **request: Any) -> Letterbox:
    return letterbox(shape="rect", margin=margin, **request)


def borders(box: Letterbox) -> tuple[int, int, int, int]:
    """Top, left, bottom, right."""
    bottom = box.input_hw[0] - box.top - box.scaled_hw[0]
    return box.top, box.left, bottom, box.input_hw[1] - box.left - box.scaled_hw[1]


def boxes_within(hw: tuple[int, int]) -> np.ndarray:
    random = np.random.default_rng(hw[0] * 5000 + hw[1])
    corners = np.sort(random.random((7, 2, 2)), axis=1) * [hw[1], hw[0]]
    return corners.reshape(7, 4).astype(np.float32)


@given(requests(), st.sampled_from(["square", "rect"]), st.integers(0, 64))
def test_boxes_go_to_the_input_and_back(request: dict[str, Any], shape: str, margin: int) -> None:
    box = letterbox(shape=shape, margin=margin, **request)
    boxes = boxes_within(box.frame_hw)
    there = boxes * np.float32(box.scale) + np.array([box.left, box.top] * 2, np.float32)
    tolerance = 1e-3 * max(1.0, 1 / box.scale)
    assert_allclose(box.to_frame(there.astype(np.float32)), boxes, atol=tolerance)


@given(st.tuples(sides, sides), st.tuples(st.integers(32, 700), st.integers(32, 700)))
def test_boxes_of_a_stretched_frame_go_back(hw: tuple[int, int], input_hw: tuple[int, int]) -> None:
    box = stretched(hw, input_hw)
    boxes = boxes_within(hw)
    ratio = np.array([input_hw[1] / hw[1], input_hw[0] / hw[0]] * 2, np.float32)
    assert_allclose(box.to_frame(boxes * ratio), boxes, atol=1e-3 * max(1, *1 / ratio))


def test_boxes_of_a_cropped_frame_go_back() -> None:
    """A frame of 100 by 200 of which the middle 80 by 80 are looked at, twice as large."""
    box = center_cropped((100, 200), (160, 160), 0.8)
    assert box.crop == (10, 60, 80, 80)
    found = box.to_frame(np.array([[0, 0, 160, 160], [20, 40, 60, 80]], np.float32))
    assert_allclose(found, [[60, 10, 140, 90], [70, 30, 90, 50]], rtol=1e-6)


@given(requests())
def test_boxes_are_clipped_to_the_frame(request: dict[str, Any]) -> None:
    box = square(**request)
    wild = np.array([[-1e5, -1e5, 1e5, 1e5]], np.float32)
    height, width = box.frame_hw
    assert box.to_frame(wild).tolist() == [[0, 0, width, height]]
    assert box.to_frame(wild).dtype == np.float32


@given(requests())
def test_the_square_is_square_and_holds_the_frame(request: dict[str, Any]) -> None:
    box = square(**request)
    assert box.input_hw == (request["input_size"], request["input_size"])
    assert min(borders(box)) >= 0
    assert max(box.scaled_hw) == request["input_size"]


@given(requests())
def test_a_centred_frame_is_centred_but_for_half_a_pixel(request: dict[str, Any]) -> None:
    top, left, bottom, right = borders(square(**{**request, "anchor": "center"}))
    assert bottom - top in (0, 1)
    assert right - left in (0, 1)


@given(requests(), st.integers(0, 96))
@example({"frame_hw": (1080, 1920), "input_size": 640, "stride": 32, "anchor": "center"}, 0)
@example({"frame_hw": (1, 4000), "input_size": 650, "stride": 64, "anchor": "center"}, 33)
def test_the_rect_keeps_what_matters_of_the_square(request: dict[str, Any], margin: int) -> None:
    whole, cut = square(**request), rect(margin, **request)
    stride, size = request["stride"], request["input_size"]
    # The same pixels of the frame, at the same phase on the grid of the strides.
    assert cut.scaled_hw == whole.scaled_hw
    assert cut.scale == whole.scale
    assert (whole.top - cut.top) % stride == 0
    assert (whole.left - cut.left) % stride == 0
    assert all(side % stride == 0 for side in cut.input_hw)
    assert max(cut.input_hw) < size + stride
    assert all(
        kept >= min(border, margin)
        for kept, border in zip(borders(cut), borders(whole), strict=True)
    )


@given(requests())
def test_the_rect_cuts_all_it_may(request: dict[str, Any]) -> None:
    top, left, bottom, right = borders(rect(0, **request))
    stride = request["stride"]
    assert max(top, left) < stride
    # Behind the frame less than a stride remains, and less than another completes the side.
    assert max(bottom, right) < 2 * stride


@given(requests(), st.integers(0, 40), st.integers(0, 40))
def test_more_margin_is_never_a_smaller_input(request: dict[str, Any], a: int, b: int) -> None:
    small, large = rect(min(a, b), **request), rect(max(a, b), **request)
    assert small.input_hw[0] <= large.input_hw[0]
    assert small.input_hw[1] <= large.input_hw[1]


def test_known_letterboxes_of_1080p() -> None:
    request = {"frame_hw": (1080, 1920), "input_size": 640, "stride": 32, "anchor": "center"}
    assert square(**request) == Letterbox(
        (640, 640), (1080, 1920), (360, 640), top=140, left=0, scale=1 / 3
    )
    assert rect(0, **request).input_hw == (384, 640)
    assert rect(32, **request).input_hw == (448, 640)
    corner = {**request, "anchor": "top_left"}
    assert (square(**corner).top, square(**corner).left) == (0, 0)
    assert rect(0, **corner).input_hw == (384, 640)
