"""NMS in the graph keeps what NMS outside of it keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models_graphs import model_of
from numpy.testing import assert_allclose, assert_array_equal
from onnx import helper

from saccade.errors import ModelError
from saccade.models.description import BoxOutputs, ModelDescription
from saccade.models.nms_graph import with_nms
from saccade.models.onnx_run import run_once
from saccade.optimize.changes.nms_in_graph import SuppressInGraph
from saccade.optimize.raw_decoding import why_not_raw
from saccade.pipeline.config import PipelineConfig, RuntimeOptions, TrackerOptions
from saccade.pipeline.geometry import letterbox
from saccade.pipeline.pipeline import Pipeline
from saccade.tasks.detection import DetectionTask
from saccade.tasks.results import DetectionResult
from saccade.testing.optimization_conformance import example_contexts
from saccade.testing.tiny_instance_segmenter import tiny_instance_segmenter_config
from saccade.testing.tiny_models import tiny_config
from saccade.testing.tiny_segmenter import tiny_segmenter_config
from saccade.testing.tiny_yolo import tiny_yolo_config

BOX = letterbox((64, 64), 64, 32, "square", "center")
CLASSES = 3
# Pixels and scores that float32 arithmetic in another order may change.
BOX_TOLERANCE, SCORE_TOLERANCE = 1e-3, 1e-6


def passing(shapes: dict[str, tuple[int, ...]], opset: int) -> onnx.ModelProto:
    """A model whose outputs are parts of its input, as they come."""
    nodes, constants, start = [], {}, 0
    for name, shape in shapes.items():
        stop = start + int(np.prod(shape))
        constants |= {f"{name}0": np.array([start]), f"{name}1": np.array([stop])}
        constants |= {f"{name}_axis": np.array([0]), f"{name}_shape": np.array(shape)}
        cut = [f"{name}0", f"{name}1", f"{name}_axis"]
        nodes.append(helper.make_node("Slice", ["images", *cut], [f"{name}_flat"]))
        nodes.append(helper.make_node("Reshape", [f"{name}_flat", f"{name}_shape"], [name]))
        start = stop
    model = model_of(nodes, shapes, constants, shape=(start,))
    model.opset_import[0].version = opset
    return model


def boxes_and_scores(seed: int, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Crowded boxes in centre and size, pixels; no two scores are equal."""
    random = np.random.default_rng(seed)
    boxes = np.concatenate([random.random((count, 2)) * 40, 8 + random.random((count, 2)) * 30], 1)
    scores = random.permutation(count * classes).reshape(count, classes) / (count * classes)
    return boxes.astype(np.float32), scores.astype(np.float32)


def as_yolov8(boxes: np.ndarray, scores: np.ndarray, turned: bool) -> dict[str, np.ndarray]:
    rows = np.concatenate([boxes, scores], axis=1)[None]
    return {"output0": rows if turned else rows.swapaxes(1, 2)}


def as_yolov5(boxes: np.ndarray, scores: np.ndarray, turned: bool) -> dict[str, np.ndarray]:
    objectness = np.full((len(boxes), 1), 0.9, np.float32)
    rows = np.concatenate([boxes, objectness, scores], axis=1)[None]
    return {"output0": rows.swapaxes(1, 2) if turned else rows}


def described(folder: Path, decode: str, turned: bool = False) -> PipelineConfig:
    base = tiny_config(folder, iou_threshold=0.5, nms="vectorized")
    names = tuple(f"class {index}" for index in range(CLASSES))
    changes = {"decode": decode, "transposed": turned, "class_names": names}
    return replace(base, description=replace(base.description, **changes))  # type: ignore[arg-type]


def both(
    config: PipelineConfig, outputs: dict[str, np.ndarray], opset: int = 17
) -> tuple[DetectionResult, DetectionResult]:
    """What NMS outside and inside of the graph finds in the same outputs."""
    outputs = {name: np.ascontiguousarray(value, np.float32) for name, value in outputs.items()}
    model = passing({name: value.shape for name, value in outputs.items()}, opset)
    inside = with_nms(
        model,
        config.description,
        score_threshold=config.score_threshold,
        iou_threshold=config.iou_threshold,
        max_detections=config.max_detections,
    )
    onnx.checker.check_model(inside)
    flat = np.concatenate([value.ravel() for value in outputs.values()])
    rows = run_once(inside, {"images": flat})
    assert rows[0].shape[1:] == (6,)
    outside = DetectionTask.postprocessor(config)(list(outputs.values()), BOX)
    return outside, DetectionTask.postprocessor(replace(config, nms="graph"))(rows, BOX)


def assert_same(expected: DetectionResult, found: DetectionResult) -> None:
    assert_array_equal(found.class_ids, expected.class_ids)
    assert_allclose(found.scores, expected.scores, atol=SCORE_TOLERANCE)
    assert_allclose(found.boxes, expected.boxes, atol=BOX_TOLERANCE)


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("decode", "build"), [("yolov8", as_yolov8), ("yolov5", as_yolov5)])
@settings(max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    threshold=st.sampled_from([0.0, 0.3, 0.97]),
    limit=st.sampled_from([2, 300]),
)
def test_the_yolo_family(
    decode: str,
    build: Callable[..., dict[str, np.ndarray]],
    turned: bool,
    opset: int,
    seed: int,
    threshold: float,
    limit: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    config = described(tmp_path_factory.getbasetemp(), decode, turned)
    config = replace(config, score_threshold=threshold, max_detections=limit)
    outputs = build(*boxes_and_scores(seed, 60, CLASSES), turned)
    assert_same(*both(config, outputs, opset))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    spec=st.builds(
        BoxOutputs,
        scores=st.sampled_from([0, 1]),
        box_format=st.sampled_from(["xyxy", "yxyx", "cxcywh"]),
        box_unit=st.sampled_from(["pixels", "normalized"]),
        scores_as=st.sampled_from(["probabilities", "sigmoid", "softmax"]),
        background=st.sampled_from(["none", "first", "last"]),
        multi_label=st.booleans(),
    ),
)
def test_boxes_and_scores(
    seed: int, spec: BoxOutputs, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = described(tmp_path_factory.getbasetemp(), "ssd")
    config = replace(config, description=replace(config.description, outputs=spec))
    columns = CLASSES + (spec.background != "none")
    boxes, scores = boxes_and_scores(seed, 60, columns)
    if spec.scores_as != "probabilities":
        scores = scores * 6 - 3
    if spec.box_format != "cxcywh":
        boxes[:, 2:] += boxes[:, :2]
    boxes = boxes / (64 if spec.box_unit == "normalized" else 1)
    joined = {"out": np.concatenate([boxes, scores], 1)[None]}
    apart = {"boxes": boxes[None], "scores": scores[None]}
    assert_same(*both(config, joined if spec.joined else apart))


def test_a_box_of_several_classes_counts_once(tmp_path: Path) -> None:
    """The masked scores of other classes must not come back, not even at threshold zero."""
    outputs = as_yolov8(np.float32([[20, 20, 10, 10]]), np.float32([[0.5, 0.9, 0.7]]), False)
    _, found = both(replace(described(tmp_path, "yolov8"), score_threshold=0.0), outputs)
    assert found.class_ids.tolist() == [1]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for index in range(5):
        cv2.imwrite(str(folder / f"{index}.png"), random.integers(0, 255, (64, 96, 3), np.uint8))
    cv2.imwrite(str(folder / "black.png"), np.zeros((64, 96, 3), np.uint8))
    return folder


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("preprocessor", ["fused", "graph"])
def test_both_runtimes_in_both_executions(
    runtime: str, preprocessor: str, pictures: Path, tmp_path: Path
) -> None:
    base = tiny_yolo_config(tmp_path)
    base = replace(base, runtime=runtime, preprocessor=preprocessor, score_threshold=0.6)
    options = RuntimeOptions(threads=2, streams=2, in_flight=3, spinning=False)
    overlapped = replace(base, nms="graph", execution="overlapped", options=options)
    results = []
    for config in (base, replace(base, nms="graph"), overlapped):
        with Pipeline(config) as pipeline:
            results.append(list(pipeline.stream(pictures)))
    assert sum(map(len, results[0])) > 10
    for way in results[1:]:
        for expected, found in zip(results[0], way, strict=True):
            assert_same(expected, found)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_nothing_above_the_threshold(runtime: str, tmp_path: Path) -> None:
    config = replace(
        tiny_yolo_config(tmp_path), runtime=runtime, nms="graph", score_threshold=0.999
    )
    with Pipeline(config) as pipeline:
        assert len(pipeline(np.zeros((64, 96, 3), np.uint8))) == 0


def test_judging_uses_a_graph_for_its_own_threshold(tmp_path: Path) -> None:
    """Accuracy needs the boxes below the threshold that the pipeline runs with."""
    image = np.random.default_rng(3).integers(0, 255, (64, 96, 3), np.uint8)
    config = replace(tiny_yolo_config(tmp_path), score_threshold=0.9)
    with Pipeline(config) as outside, Pipeline(replace(config, nms="graph")) as inside:
        before = inside(image)
        judged = inside.judge(image, 0.001)
        assert len(judged) > len(before)
        assert_same(outside.judge(image, 0.001), judged)
        assert_same(before, inside(image))


def test_a_tracker_gets_the_same_boxes_from_a_graph(tmp_path: Path) -> None:
    base = replace(
        tiny_yolo_config(tmp_path), task="tracking", tracker=TrackerOptions(), score_threshold=0.05
    )
    context = replace(next(iter(example_contexts(tmp_path))), config=base)
    assert SuppressInGraph().applies(context) is None
    patches = np.random.default_rng(3).integers(0, 255, (64, 96, 3), np.uint8)
    frames = [np.roll(patches, index, axis=1) for index in range(4)]
    changed = SuppressInGraph().apply(context)
    with Pipeline(base) as outside, Pipeline(changed) as inside:
        tracked = [(outside(frame), inside(frame)) for frame in frames]
    for expected, found in tracked:
        assert_same(expected, found)
    assert sum(len(expected) for expected, _ in tracked) > 0


def test_tasks_without_boxes_have_nothing_to_suppress(tmp_path: Path) -> None:
    context = next(iter(example_contexts(tmp_path)))
    segmenter = replace(context, config=tiny_segmenter_config(tmp_path))
    assert SuppressInGraph().applies(segmenter) == "segmentation suppresses no boxes"
    masks = replace(context, config=tiny_instance_segmenter_config(tmp_path))
    assert "more, or less, than boxes and scores" in (SuppressInGraph().applies(masks) or "")


def test_what_it_cannot_be_put_behind(tmp_path: Path) -> None:
    limits = {"score_threshold": 0.1, "iou_threshold": 0.5, "max_detections": 9}
    config = described(tmp_path, "yolox")
    model = passing({"output0": (1, 5, 8)}, 17)
    with pytest.raises(ModelError, match="known are yolov8, yolov5, ssd"):
        with_nms(model, config.description, **limits)  # type: ignore[arg-type]
    old = passing({"output0": (1, 7, 5)}, 10)
    yolov8: ModelDescription = described(tmp_path, "yolov8").description
    with pytest.raises(ModelError, match="needs opset 11"):
        with_nms(old, yolov8, **limits)  # type: ignore[arg-type]
    converted = replace(config.model, format="openvino_ir")
    with (
        Pipeline(replace(config, model=converted, nms="graph")) as pipeline,
        pytest.raises(ModelError, match="needs the ONNX model"),
    ):
        pipeline(np.zeros((64, 64, 3), np.uint8))


def test_the_head_is_not_cut_off_below_it(tmp_path: Path) -> None:
    whole = tiny_yolo_config(tmp_path)
    assert why_not_raw(whole) is None
    assert "boxes in the graph" in (why_not_raw(replace(whole, nms="graph")) or "")
