"""Decoding that was cut out of a graph finds what the whole graph finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from onnx import numpy_helper

from saccade.errors import ModelError
from saccade.models.onnx_file import read_onnx
from saccade.models.raw_head import can_cut, cut_head, raw_description
from saccade.models.reshape import reshape
from saccade.optimize.raw_decoding import why_not_raw, with_raw_decoding
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.pipeline import Pipeline
from saccade.tasks.detection_decode import DECODES
from saccade.testing.tiny_models import CLASSES, tiny_config
from saccade.testing.tiny_yolo import HW, STRIDES, tiny_yolo, tiny_yolo_config


def run(model: onnx.ModelProto, tensor: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return [np.asarray(output) for output in session.run(None, {"images": tensor})]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> PipelineConfig:
    return tiny_yolo_config(tmp_path_factory.mktemp("yolo"))


@pytest.fixture(scope="module")
def cut(whole: PipelineConfig) -> onnx.ModelProto:
    return cut_head(read_onnx(whole.model.path), len(CLASSES))


def test_a_pair_of_maps_per_stride_is_left(cut: onnx.ModelProto) -> None:
    onnx.checker.check_model(cut)
    outputs = run(cut, np.zeros((1, 3, *HW), np.float32))
    assert [output.shape[1:] for output in outputs] == [
        (channels, HW[0] // stride, HW[1] // stride)
        for stride in STRIDES
        for channels in (16, len(CLASSES))
    ]
    assert {node.op_type for node in cut.graph.node} == {"Conv"}
    assert "points" not in {tensor.name for tensor in cut.graph.initializer}


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), threshold=st.sampled_from([0.0, 0.001, 0.25, 0.6, 1.0]))
def test_the_same_boxes(
    whole: PipelineConfig, cut: onnx.ModelProto, seed: int, threshold: float
) -> None:
    tensor = np.random.default_rng(seed).random((1, 3, *HW)).astype(np.float32)
    expected = DECODES["yolov8"][0](run(tiny_yolo(), tensor), threshold, HW)
    found = DECODES["yolov8_raw"][0](run(cut, tensor), threshold, HW)
    assert_allclose(found[0], expected[0], atol=1e-3)
    assert_allclose(found[1], expected[1], atol=1e-5)
    assert_array_equal(found[2], expected[2])
    assert [part.dtype for part in found] == [part.dtype for part in expected]


def test_the_same_results_at_sizes_that_the_model_was_not_made_for(
    whole: PipelineConfig, tmp_path: Path
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (90, 70, 3), np.uint8)
    raw = with_raw_decoding(whole, tmp_path)
    with Pipeline(whole) as one, Pipeline(raw) as other:
        expected, found = one(image), other(image)
    assert len(expected)
    assert_allclose(found.boxes, expected.boxes, atol=1e-3)
    assert_array_equal(found.class_ids, expected.class_ids)


def test_the_cut_model_can_be_made_dynamic(cut: onnx.ModelProto) -> None:
    """Nothing that is left knows the size."""
    tensor = np.zeros((1, 3, 32, 160), np.float32)
    assert run(reshape(cut, None), tensor)[0].shape == (1, 16, 4, 20)


def test_a_cut_file_is_used_again_and_the_original_left_alone(
    whole: PipelineConfig, tmp_path: Path
) -> None:
    before = Path(whole.model.path).read_bytes()
    first = with_raw_decoding(whole, tmp_path)
    written = Path(first.model.path).stat().st_mtime_ns
    assert with_raw_decoding(whole, tmp_path) == first
    assert Path(first.model.path).stat().st_mtime_ns == written
    assert Path(whole.model.path).read_bytes() == before
    assert not list(tmp_path.glob("partial-*"))
    assert why_not_raw(first) == "already in use"


def test_distances_without_distributions() -> None:
    """One bin: the distance itself, as in models without distribution focal loss."""
    boxes = np.zeros((1, 4, 2, 3), np.float32)
    boxes[0, :, 1, 2] = [1, 0.5, 2, 0.5]
    logits = np.full((1, 2, 2, 3), -9, np.float32)
    logits[0, 1, 1, 2] = 0
    found, scores, class_ids = DECODES["yolov8_raw"][0]([boxes, logits], 0.25, (16, 24))
    assert_allclose(found, [[12, 8, 36, 16]])  # centre (2.5, 1.5) cells of 8 pixels
    assert_allclose(scores, [0.5])
    assert class_ids.tolist() == [1]


def test_garbage_is_survived() -> None:
    maps = [np.full((1, count, 2, 2), np.nan, np.float32) for count in (16, 2)]
    assert not len(DECODES["yolov8_raw"][0](maps, 0.25, (16, 16))[0])


def test_other_heads_are_refused_with_a_reason(whole: PipelineConfig, tmp_path: Path) -> None:
    plain = tiny_config(tmp_path)
    assert "as many of one as of the other" in (why_not_raw(plain) or "")
    assert "0 with 3 (classes)" in (can_cut(tiny_yolo(), 3) or "")
    with pytest.raises(ModelError, match="cannot be cut out"):
        cut_head(read_onnx(plain.model.path), len(CLASSES))
    yolox = replace(plain, description=replace(plain.description, decode="yolox"))
    assert "yolox" in (why_not_raw(yolox) or "")


def test_a_projection_that_is_no_expected_value_is_refused() -> None:
    model = tiny_yolo()
    tensor = next(t for t in model.graph.initializer if t.name == "bins")
    weight = numpy_helper.to_array(tensor) * 2
    tensor.CopyFrom(numpy_helper.from_array(weight, "bins"))
    assert "expected values" in (can_cut(model, len(CLASSES)) or "")


def test_a_cut_that_says_something_else_is_refused(tmp_path: Path) -> None:
    """A head whose boxes are shifted by a constant that the walk does not look at."""
    model = tiny_yolo()
    tensor = next(t for t in model.graph.initializer if t.name == "points")
    shifted = numpy_helper.to_array(tensor) + 1
    tensor.CopyFrom(numpy_helper.from_array(shifted.astype(np.float32), "points"))
    config = tiny_yolo_config(tmp_path)
    Path(config.model.path).write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="differ by up to"):
        with_raw_decoding(config, tmp_path / "models")
    assert not list((tmp_path / "models").glob("*.onnx"))


def test_what_is_known_says_that_it_was_cut(whole: PipelineConfig) -> None:
    described = raw_description(whole.description)
    assert described.decode == "yolov8_raw"
    assert "cut out" in described.evidence[-1]
