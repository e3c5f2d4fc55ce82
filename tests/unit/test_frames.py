"""Three ways of scaling a frame give the same picture, into their place and nowhere else."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from saccade.data.images import read_image
from saccade.pipeline.frames import (
    ArrayFrame,
    Frame,
    PlanarFrame,
    SwscaleFrame,
    as_decoded,
    inside,
    shrink,
)
from saccade.pipeline.geometry import Letterbox, letterbox

GREY = 114
BT709 = 1
FULL_RANGE = 2


def smooth(hw: tuple[int, int]) -> np.ndarray:
    """Gradients and a slow wave: nothing that scaling could blur or 4:2:0 could smear."""
    y, x = np.mgrid[: hw[0], : hw[1]] / np.array([[[hw[0]]], [[hw[1]]]])
    return np.stack([255 * x, 255 * y, 128 + 90 * np.sin(5 * x) * np.cos(4 * y)], -1).astype("u1")


def yuv(rgb: np.ndarray, **settings: int) -> av.VideoFrame:
    """As a decoder would hand it over."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    return frame.reformat(format="yuv420p", **settings)  # type: ignore[arg-type]


def scaled(frame: Frame, box: Letterbox, order: str = "rgb") -> np.ndarray:
    canvas = np.full((*box.input_hw, 3), GREY, np.uint8)
    frame.scale(box, order, canvas)  # type: ignore[arg-type]
    return canvas


def differences(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    apart = np.abs(a.astype(int) - b.astype(int))
    return float(apart.mean()), float(apart.max())


def assert_close(a: np.ndarray, b: np.ndarray, mean: float = 1.5, most: float = 8) -> None:
    found = differences(a, b)
    assert found[0] <= mean, found
    assert found[1] <= most, found


BOXES = {
    "1080p to 640": letterbox((540, 960), 640, 32, "square", "center"),
    "tight": letterbox((540, 960), 640, 32, "rect", "center"),
    "odd target": letterbox((540, 960), 333, 1, "square", "center"),
    "odd frame": letterbox((541, 963), 640, 32, "rect", "center"),
    "portrait, enlarged": letterbox((300, 170), 640, 32, "square", "top_left"),
    "as it is": letterbox((480, 640), 640, 32, "rect", "center"),
}


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("kind", [PlanarFrame, SwscaleFrame])
def test_yuv_frames_scale_to_what_arrays_scale_to(kind: type, order: str, name: str) -> None:
    box = BOXES[name]
    rgb = smooth(box.frame_hw)
    expected = scaled(ArrayFrame(rgb, "rgb"), box, order)
    assert_close(scaled(kind(yuv(rgb)), box, order), expected)


@pytest.mark.parametrize("kind", [PlanarFrame, SwscaleFrame])
@pytest.mark.parametrize(
    "settings",
    [{"dst_color_range": FULL_RANGE}, {"dst_colorspace": BT709}],
    ids=["full range", "BT.709"],
)
@pytest.mark.parametrize("name", ["1080p to 640", "odd target"])
def test_the_declared_range_and_matrix_are_honoured(
    kind: type, settings: dict[str, int], name: str
) -> None:
    """Most HD video is BT.709; read as BT.601 its colours are wrong by twenty levels."""
    box = BOXES[name]
    rgb = smooth(box.frame_hw)
    frame = yuv(rgb, **settings)
    frame.colorspace = settings.get("dst_colorspace", frame.colorspace)
    expected = scaled(ArrayFrame(rgb, "rgb"), box)
    assert_close(scaled(kind(frame), box), expected)
    assert_close(kind(frame).rgb(), rgb)


def test_yuvj_is_full_range() -> None:
    box = BOXES["1080p to 640"]
    rgb = smooth(box.frame_hw)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuvj420p")
    assert_close(scaled(PlanarFrame(frame), box), scaled(ArrayFrame(rgb, "rgb"), box))


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_an_array_frame_may_have_either_order(order: str) -> None:
    box = BOXES["odd frame"]
    rgb = smooth(box.frame_hw)
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    a, b = scaled(ArrayFrame(rgb, "rgb"), box, order), scaled(ArrayFrame(bgr, "bgr"), box, order)
    assert_array_equal(a, b)
    assert_array_equal(ArrayFrame(bgr, "bgr").rgb(), rgb)


def test_views_with_negative_strides_are_scaled() -> None:
    box = BOXES["tight"]
    rgb = smooth(box.frame_hw)
    turned = np.ascontiguousarray(rgb[..., ::-1])[..., ::-1]
    assert_array_equal(scaled(ArrayFrame(turned, "rgb"), box), scaled(ArrayFrame(rgb, "rgb"), box))


KINDS = {
    "array": lambda rgb: ArrayFrame(rgb, "bgr"),
    "planar": lambda rgb: PlanarFrame(yuv(rgb)),
    "swscale": lambda rgb: SwscaleFrame(yuv(rgb)),
}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(2, 300),
    width=st.integers(2, 300),
    size=st.integers(1, 8).map(lambda n: n * 32),
    shape=st.sampled_from(["square", "rect"]),
    anchor=st.sampled_from(["center", "top_left"]),
)
def test_only_the_frames_place_is_written(
    kind: str, height: int, width: int, size: int, shape: str, anchor: str
) -> None:
    box = letterbox((height, width), size, 32, shape, anchor)  # type: ignore[arg-type]
    frame = KINDS[kind](np.full((height, width, 3), 200, np.uint8))
    assert frame.hw == (height, width)
    canvas = np.full((*box.input_hw, 3), GREY, np.uint8)
    frame.scale(box, "rgb", canvas)
    assert differences(inside(canvas, box), np.array(200))[1] <= 3
    inside(canvas, box)[...] = GREY
    assert (canvas == GREY).all()


@pytest.mark.parametrize("resize", ["bgr", "planes", "swscale"])
@pytest.mark.parametrize("hw", [(48, 64), (47, 63), (1, 64), (2, 2), (1, 1)])
def test_images_take_the_path_of_the_video(resize: str, hw: tuple[int, int]) -> None:
    frame = as_decoded(np.full((*hw, 3), 90, np.uint8), resize)
    height, width = frame.hw
    assert hw[0] - height in (0, 1)
    assert hw[1] - width in (0, 1)
    box = letterbox(frame.hw, 64, 32, "rect", "center")
    assert differences(inside(scaled(frame, box), box), np.array(90))[1] <= 3


@pytest.mark.realdata
def test_the_three_agree_on_a_photograph(data_root: Path) -> None:
    """4:2:0 smears edges of colour a little in every path, so single pixels may differ more."""
    path = sorted((data_root / "coco").rglob("*.jpg"))[0]
    rgb = read_image(path)
    height, width = (side - side % 2 for side in rgb.shape[:2])
    rgb = np.ascontiguousarray(rgb[:height, :width])
    box = letterbox((height, width), max(height, width), 32, "square", "center")
    exact = scaled(ArrayFrame(rgb, "rgb"), box)
    planar = scaled(as_decoded(rgb, "planes"), box)
    swscale = scaled(as_decoded(rgb, "swscale"), box)
    assert differences(planar, exact)[0] < 4
    assert differences(swscale, planar)[0] < 3
    # The luma, which carries the edges, is the same.
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (exact, planar, swscale)]
    assert differences(grey[0], grey[1])[0] < 1.5
    assert differences(grey[0], grey[2])[0] < 1.5


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_shrinking_a_plane_is_bilinear_scaling_at_any_factor(
    height: int, width: int, rows: int, columns: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    plane = generator.integers(0, 256, (height * rows, width * columns), np.uint8)
    target = np.empty((height, width), np.uint8)
    shrink(plane, target)
    np.testing.assert_array_equal(target, cv2.resize(plane, (width, height)))
