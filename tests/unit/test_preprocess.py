"""Preprocessing step by step, fused, and in the graph feed the model the same values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from onnx import TensorProto, helper

from saccade.models.description import Preprocessing
from saccade.models.graph_preprocess import with_preprocessing
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.frames import ArrayFrame
from saccade.pipeline.geometry import Letterbox, letterbox
from saccade.pipeline.preprocess import (
    FusedPreprocessor,
    GraphPreprocessor,
    NumpyPreprocessor,
    affine,
)
from saccade.testing.tiny_models import tiny_config

SETTINGS = {
    "yolo": Preprocessing(),
    "yolox": Preprocessing("bgr", 1.0, anchor="top_left"),
    "imagenet": Preprocessing("rgb", 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": Preprocessing("bgr", 1.0, (103.5, 116.3, 123.7), (57.4, 57.1, 58.4), pad_value=0),
}
HW = (50, 80)


def config_of(pre: Preprocessing, folder: Path) -> PipelineConfig:
    base = tiny_config(folder)
    return replace(base, description=replace(base.description, preprocessing=pre))


def frame(seed: int = 0, hw: tuple[int, int] = HW, order: str = "rgb") -> ArrayFrame:
    pixels = np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8)
    return ArrayFrame(pixels, order)  # type: ignore[arg-type]


def box_of(pre: Preprocessing, hw: tuple[int, int] = HW, shape: str = "square") -> Letterbox:
    return letterbox(hw, 64, 8, shape, pre.anchor)


def through(preprocessor: Any, image: ArrayFrame, box: Letterbox) -> np.ndarray:
    return np.array(preprocessor.run(image, box, preprocessor.allocate(box)))


def identity() -> onnx.ModelProto:
    """A model that answers with its input, so that the graph's preprocessing can be seen."""
    shape = [1, 3, "height", "width"]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["images"], ["out"])],
        "identity",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def in_graph(pre: Preprocessing, pixels: np.ndarray) -> np.ndarray:
    model = with_preprocessing(identity(), "images", pre)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (name,) = [value.name for value in session.get_inputs()]
    return np.asarray(session.run(None, {name: pixels})[0])


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("shape", ["square", "rect"])
def test_all_three_feed_the_same(name: str, order: str, shape: str, tmp_path: Path) -> None:
    pre = SETTINGS[name]
    config, box, image = config_of(pre, tmp_path), box_of(pre, shape=shape), frame(order=order)
    naive = through(NumpyPreprocessor(config), image, box)
    fused = through(FusedPreprocessor(config), image, box)
    pixels = through(GraphPreprocessor(config), image, box)
    assert naive.shape == fused.shape == (1, 3, *box.input_hw)
    assert naive.dtype == fused.dtype == np.float32
    assert pixels.shape == (1, *box.input_hw, 3)
    assert pixels.dtype == np.uint8
    scale = float(np.abs(naive).max())
    assert_allclose(fused, naive, atol=1e-5 * scale)
    assert_allclose(in_graph(pre, pixels), naive, atol=1e-5 * scale)
    assert scale <= 255


def test_the_values_are_those_of_the_definition(tmp_path: Path) -> None:
    """``(pixel * scale - mean) / std``, one pixel by hand."""
    pre = SETTINGS["imagenet"]
    image = ArrayFrame(np.full((*HW, 3), (10, 20, 30), np.uint8), "rgb")
    box = box_of(pre)
    found = through(FusedPreprocessor(config_of(pre, tmp_path)), image, box)
    middle = found[0, :, 32, 32]
    expected = (np.array([10, 20, 30]) / 255 - np.array(pre.mean)) / np.array(pre.std)
    assert_allclose(middle, expected, rtol=1e-5)
    border = (114 / 255 - np.array(pre.mean)) / np.array(pre.std)
    assert_allclose(found[0, :, 0, 0], border, rtol=1e-5)


@pytest.mark.parametrize("kind", [NumpyPreprocessor, FusedPreprocessor, GraphPreprocessor])
def test_frames_of_other_shapes_leave_nothing_behind(kind: type, tmp_path: Path) -> None:
    """Landscape, portrait and landscape again in one square letterbox."""
    pre = SETTINGS["yolo"]
    config = config_of(pre, tmp_path)
    used = kind(config)
    for seed, hw in enumerate([(40, 80), (80, 40), (60, 64), (40, 80)]):
        box = box_of(pre, hw)
        fresh = through(kind(config), frame(seed, hw), box)
        assert_array_equal(through(used, frame(seed, hw), box), fresh)


@pytest.mark.parametrize("kind", [FusedPreprocessor, GraphPreprocessor])
def test_a_buffer_is_filled_again_and_again(kind: type, tmp_path: Path) -> None:
    pre = SETTINGS["caffe"]
    preprocessor, box = kind(config_of(pre, tmp_path)), box_of(pre)
    buffer = preprocessor.allocate(box)
    for seed in range(3):
        found = preprocessor.run(frame(seed), box, buffer)
        assert found is buffer
        assert_array_equal(found, through(kind(config_of(pre, tmp_path)), frame(seed), box))


def test_two_buffers_do_not_disturb_each_other(tmp_path: Path) -> None:
    """The overlapped engine fills one while the runtime still reads the other."""
    pre = SETTINGS["yolo"]
    preprocessor, box = FusedPreprocessor(config_of(pre, tmp_path)), box_of(pre)
    first = preprocessor.run(frame(1), box, preprocessor.allocate(box))
    before = first.copy()
    preprocessor.run(frame(2), box, preprocessor.allocate(box))
    assert_array_equal(first, before)


def test_normalization_as_factor_and_offset() -> None:
    factor, offset = affine(SETTINGS["imagenet"])
    pixel = np.float32([[0, 0, 0], [255, 255, 255]])
    expected = (pixel / 255 - SETTINGS["imagenet"].mean) / SETTINGS["imagenet"].std
    assert_allclose(pixel * factor + offset, expected, rtol=1e-5)
    assert factor.dtype == offset.dtype == np.float32


def test_preprocessing_in_the_graph_leaves_the_model_alone() -> None:
    model = identity()
    before = model.SerializeToString()
    with_preprocessing(model, "images", SETTINGS["caffe"])
    assert model.SerializeToString() == before
