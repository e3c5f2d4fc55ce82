"""NMS behind a PyTorch model keeps what NMS on the host keeps."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from saccade.errors import MissingExtraError, ModelError
from saccade.models.description import BoxOutputs
from saccade.models.files import model_file
from saccade.optimize.changes.nms_in_graph import SuppressInGraph
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.geometry import letterbox
from saccade.pipeline.pipeline import Pipeline
from saccade.tasks.detection import DetectionTask
from saccade.tasks.results import DetectionResult
from saccade.testing.example_contexts import example_contexts
from saccade.testing.tiny_models import tiny_config, write_tiny

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
from saccade.models.torch_nms import Suppression, read_suppressing, suppressed, with_nms  # noqa: E402

BOX = letterbox((64, 64), 64, 32, "square", "center")
CLASSES = 3
# Pixels and scores that float32 arithmetic in another order may change.
BOX_TOLERANCE, SCORE_TOLERANCE = 1e-3, 1e-6
SPECS = st.builds(
    BoxOutputs,
    scores=st.sampled_from([0, 1]),
    box_format=st.sampled_from(["xyxy", "yxyx", "cxcywh"]),
    box_unit=st.sampled_from(["pixels", "normalized"]),
    scores_as=st.sampled_from(["probabilities", "sigmoid", "softmax"]),
    background=st.sampled_from(["none", "first", "last"]),
    multi_label=st.booleans(),
)


def crowd(seed: int, count: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Crowded boxes in centre and size, pixels, some beyond the border; all scores differ."""
    random = np.random.default_rng(seed)
    boxes = np.concatenate([random.random((count, 2)) * 40, 8 + random.random((count, 2)) * 30], 1)
    scores = random.permutation(count * columns).reshape(count, columns) / (count * columns)
    return boxes.astype(np.float32), scores.astype(np.float32)


def config_of(decode: str, turned: bool = False, spec: BoxOutputs | None = None) -> PipelineConfig:
    base = tiny_config(FOLDER, iou_threshold=0.5, nms="vectorized")
    names = tuple(f"class {index}" for index in range(CLASSES))
    described = replace(
        base.description, decode=decode, transposed=turned, class_names=names, outputs=spec
    )
    return replace(base, description=described)


@pytest.fixture(autouse=True, scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    global FOLDER
    FOLDER = tmp_path_factory.mktemp("models")


def rule_of(config: PipelineConfig) -> Suppression:
    described = config.description
    return Suppression(
        described.decode,
        described.transposed,
        described.outputs or BoxOutputs(box_format="cxcywh"),
        config.score_threshold,
        config.iou_threshold,
        config.max_detections,
    )


def assert_same_kept(config: PipelineConfig, outputs: list[np.ndarray]) -> DetectionResult:
    arrays = [np.ascontiguousarray(value, np.float32) for value in outputs]
    rows = suppressed([torch.from_numpy(value) for value in arrays], rule_of(config))
    assert rows.dtype == torch.float32
    assert rows.shape[1:] == (6,)
    expected = DetectionTask.postprocessor(config)(arrays, BOX)
    found = DetectionTask.postprocessor(replace(config, nms="graph"))([rows.numpy()], BOX)
    assert_same(expected, found)
    return found


def assert_same(expected: DetectionResult, found: DetectionResult) -> None:
    assert_array_equal(found.class_ids, expected.class_ids)
    assert_allclose(found.scores, expected.scores, atol=SCORE_TOLERANCE)
    assert_allclose(found.boxes, expected.boxes, atol=BOX_TOLERANCE)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("decode", ["yolov8", "yolov5"])
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    # The second count is more than batched_nms takes at once on the CPU.
    count=st.sampled_from([60, 1100]),
    threshold=st.sampled_from([0.0, 0.3, 0.97]),
    limit=st.sampled_from([2, 300]),
)
def test_the_yolo_family(
    decode: str, turned: bool, seed: int, count: int, threshold: float, limit: int
) -> None:
    config = replace(config_of(decode, turned), score_threshold=threshold, max_detections=limit)
    boxes, scores = crowd(seed, count, CLASSES)
    objectness = [np.full((count, 1), 0.9, np.float32)] if decode == "yolov5" else []
    rows = np.concatenate([boxes, *objectness, scores], axis=1)[None]
    anchors_last = (decode == "yolov8") != turned
    assert_same_kept(config, [rows.swapaxes(1, 2) if anchors_last else rows])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), spec=SPECS)
def test_boxes_and_scores(seed: int, spec: BoxOutputs) -> None:
    columns = CLASSES + (spec.background != "none")
    boxes, scores = crowd(seed, 60, columns)
    if spec.scores_as != "probabilities":
        scores = scores * 6 - 3
    if spec.box_format != "cxcywh":
        boxes[:, 2:] += boxes[:, :2]
    boxes = boxes / (64 if spec.box_unit == "normalized" else 1)
    joined, apart = [np.concatenate([boxes, scores], 1)[None]], [boxes[None], scores[None]]
    assert_same_kept(config_of("ssd", spec=spec), joined if spec.joined else apart)


def test_equal_scores_come_in_input_order() -> None:
    boxes, scores = crowd(0, 1200, CLASSES)
    scores = np.round(scores, 1)
    found = assert_same_kept(config_of("yolov8"), [np.concatenate([boxes, scores], 1).T[None]])
    assert len(set(found.scores.tolist())) < len(found) / 2


def test_classes_do_not_suppress_each_other_where_boxes_lie_beyond_the_border() -> None:
    """Telling classes apart by moving their boxes fails for negative coordinates."""
    corners = np.float32([[-60, 0, 40, 60], [0, 0, 101, 60]])
    spec = BoxOutputs(multi_label=False)
    config = replace(config_of("ssd", spec=spec), iou_threshold=0.3)
    scores = np.float32([[0.0, 0.9, 0], [0.8, 0, 0]])
    found = assert_same_kept(config, [corners[None], scores[None]])
    assert len(found) == 2


def test_garbage_is_dropped() -> None:
    boxes, scores = crowd(1, 30, CLASSES)
    boxes[3], boxes[5, 2], scores[7], scores[9] = np.nan, np.inf, np.inf, np.nan
    boxes[11] = 1e9
    found = assert_same_kept(config_of("yolov8"), [np.concatenate([boxes, scores], 1).T[None]])
    assert len(found)


def test_nothing_above_the_threshold_and_no_anchors() -> None:
    boxes, scores = crowd(1, 30, CLASSES)
    rows = np.concatenate([boxes, scores * 0.1], 1).T[None]
    assert len(assert_same_kept(config_of("yolov8"), [rows])) == 0
    empty = suppressed([torch.zeros(1, 4 + CLASSES, 0)], rule_of(config_of("yolov8")))
    assert tuple(empty.shape) == (0, 6)


def test_the_rule_lies_in_the_file(tmp_path: Path) -> None:
    program = write_tiny("torch_export", tmp_path)
    assert read_suppressing(program)[1] is None
    config = config_of("ssd", spec=BoxOutputs(box_format="yxyx", background="first"))
    limits = {"score_threshold": 0.1, "iou_threshold": 0.5, "max_detections": 9}
    with_nms(program, tmp_path / "with.pt2", config.description, **limits)  # type: ignore[arg-type]
    read, rule = read_suppressing(tmp_path / "with.pt2")
    assert rule == replace(rule_of(config), **limits)
    assert json.loads(rule.to_json())["outputs"]["box_format"] == "yxyx"
    image = torch.rand(1, 3, 64, 96)
    before = read_suppressing(program)[0].module()(image)
    assert torch.equal(read.module()(image), before)


def test_what_it_cannot_be_put_behind(tmp_path: Path) -> None:
    limits = {"score_threshold": 0.1, "iou_threshold": 0.5, "max_detections": 9}
    with pytest.raises(ModelError, match="known are yolov8, yolov5, ssd"):
        with_nms(tmp_path / "no.pt2", tmp_path / "x.pt2", config_of("yolox").description, **limits)  # type: ignore[arg-type]


def test_without_torchvision_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = write_tiny("torch_export", tmp_path)
    limits = {"score_threshold": 0.1, "iou_threshold": 0.5, "max_detections": 9}
    with_nms(program, tmp_path / "with.pt2", config_of("yolov8").description, **limits)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MissingExtraError, match="torchvision"):
        read_suppressing(tmp_path / "with.pt2")


@pytest.mark.parametrize("preprocessor", ["numpy", "graph"])
def test_a_pipeline_keeps_the_same_boxes(preprocessor: str, tmp_path: Path) -> None:
    base = tiny_config(tmp_path, score_threshold=0.3, iou_threshold=0.9, preprocessor=preprocessor)
    program = model_file(write_tiny("torch_export", tmp_path))
    config = replace(base, model=program, runtime="torch")
    image = np.random.default_rng(3).integers(0, 255, (64, 96, 3), np.uint8)
    with Pipeline(config) as outside, Pipeline(replace(config, nms="graph")) as inside:
        expected = outside(image)
        assert_same(expected, inside(image))
        judged = inside.judge(image, 0.001)
        assert len(judged) > len(expected) > 0
        assert_same(outside.judge(image, 0.001), judged)


def test_it_is_offered_for_programs(tmp_path: Path) -> None:
    program = model_file(write_tiny("torch_export", tmp_path))
    detector = replace(tiny_config(tmp_path), model=program, runtime="torch")
    context = replace(next(example_contexts(tmp_path)), config=detector)
    assert SuppressInGraph().applies(context) is None
    unknown = replace(detector.description, decode="yolox")
    reason = SuppressInGraph().applies(
        replace(context, config=replace(detector, description=unknown))
    )
    assert reason is not None
