"""Real detectors: described, reshaped, and their preprocessing verified by accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from saccade.errors import ModelError
from saccade.models import graph_reading
from saccade.models.description import ModelDescription
from saccade.models.inspect import summarize
from saccade.models.label_fit import label_fit
from saccade.models.onnx_model import describe, describe_model, read_onnx
from saccade.models.reshape import can_reshape, reshape
from saccade.models.verify import verify_preprocessing
from saccade.pipeline.geometry import letterbox

Detections = tuple[np.ndarray, np.ndarray, np.ndarray]
Labelled = tuple[np.ndarray, np.ndarray, np.ndarray]


def open_session(model: onnx.ModelProto) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def fixed_export(dynamic: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The dynamic model with its size fixed and all that follows from it folded to constants."""
    import onnxruntime

    pinned = graph_reading.with_input_shape(dynamic, "images", (1, 3, 640, 640))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "fixed.onnx")
    onnxruntime.InferenceSession(
        pinned.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return read_onnx(folder / "fixed.onnx")


@pytest.fixture(scope="module")
def fixed640(yolo11n: Path, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    return fixed_export(read_onnx(yolo11n), tmp_path_factory.mktemp("fixed"))


@pytest.fixture(scope="module")
def yolox(data_root: Path) -> Path:
    return data_root.parent / "models" / "yolox_nano_coco.onnx"


def candidates(outputs: np.ndarray, decode: str, hw: tuple[int, int]) -> Detections:
    """Boxes before NMS, xyxy in input pixels, above score 0.1, by score."""
    if decode == "yolov8":
        rows = outputs[0].T
        boxes, scores = rows[:, :4], rows[:, 4:]
    else:
        rows = outputs[0]
        cells = []
        for stride in (8, 16, 32):
            y, x = np.mgrid[: hw[0] // stride, : hw[1] // stride]
            cells.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride)], 1))
        grid = np.concatenate(cells)
        stride_of = grid[:, 2:]
        centres = (rows[:, :2] + grid[:, :2]) * stride_of
        boxes = np.concatenate([centres, np.exp(rows[:, 2:4]) * stride_of], 1)
        scores = rows[:, 4:5] * rows[:, 5:]
    ids, best = scores.argmax(1), scores.max(1)
    keep = np.flatnonzero(best > 0.1)
    keep = keep[np.argsort(-best[keep], kind="stable")]
    half = boxes[keep, 2:] / 2
    corners = np.concatenate([boxes[keep, :2] - half, boxes[keep, :2] + half], 1)
    return corners, best[keep], ids[keep]


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return np.asarray(shared / ((box[2:] - box[:2]).prod() + area - shared))


def suppress(found: Detections, threshold: float) -> Detections:
    boxes, scores, ids = found
    left, kept = np.arange(len(boxes)), []
    while len(left):
        first, left = left[0], left[1:]
        kept.append(first)
        same = ids[left] == ids[first]
        left = left[~(same & (overlap(boxes[first], boxes[left]) > threshold))]
    return boxes[kept], scores[kept], ids[kept]


def tensor_of(
    image: np.ndarray, description: ModelDescription, shape: str
) -> tuple[np.ndarray, Any]:
    import cv2

    now = description.preprocessing
    box = letterbox(image.shape[:2], description.input_size, description.stride, shape, now.anchor)
    canvas = np.full((*box.input_hw, 3), now.pad_value, np.uint8)
    rows, columns = box.scaled_hw
    canvas[box.top : box.top + rows, box.left : box.left + columns] = cv2.resize(
        image, (columns, rows), interpolation=cv2.INTER_LINEAR
    )
    if now.channel_order == "bgr":
        canvas = canvas[..., ::-1]
    values = (canvas * np.float32(now.scale) - np.float32(now.mean)) / np.float32(now.std)
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32), box


def detect(
    session: Any, image: np.ndarray, description: ModelDescription, shape: str = "square"
) -> Detections:
    tensor, box = tensor_of(image, description, shape)
    output = session.run(None, {description.input.name: tensor})[0]
    found = candidates(output, description.decode, box.input_hw)
    boxes, scores, ids = suppress(found, description.iou_threshold)
    return box.to_frame(boxes.astype(np.float32)), scores, ids


def labelled(data_root: Path, count: int) -> list[Labelled]:
    import cv2

    images = []
    for path in sorted((data_root / "coco" / "images" / "validation").glob("*.jpg"))[:count]:
        image = cv2.imread(str(path))[..., ::-1]
        text = data_root / "coco" / "labels" / "validation" / f"{path.stem}.txt"
        content = text.read_text() if text.is_file() else ""
        rows = np.array(content.split(), float).reshape(-1, 5)
        size = np.array([image.shape[1], image.shape[0]])
        centres, half = rows[:, 1:3] * size, rows[:, 3:5] * size / 2
        boxes = np.concatenate([centres - half, centres + half], 1)
        images.append((image, boxes, rows[:, 0].astype(int)))
    return images


def fit_score(session: Any, images: list[Labelled]) -> Callable[[ModelDescription], np.ndarray]:
    def score(description: ModelDescription) -> np.ndarray:
        return np.array(
            [
                label_fit(*detect(session, image, description), boxes, ids)
                for image, boxes, ids in images
            ]
        )

    return score


@pytest.mark.demo_model
def test_describe_yolo11n(yolo11n: Path) -> None:
    found = describe(yolo11n)
    assert found.decode == "yolov8" and found.input.dynamic
    assert (found.input.layout, found.input.dtype) == ("NCHW", "float32")
    assert (found.input_size, found.stride, found.iou_threshold) == (640, 32, 0.7)
    assert len(found.class_names) == 80 and found.class_names[0] == "person"
    assert "AGPL" in found.license
    assert summarize(yolo11n)["parameters"] == pytest.approx(2.62e6, rel=0.01)


@pytest.mark.demo_model
def test_describe_fixed_export_agrees_with_dynamic(
    yolo11n: Path, fixed640: onnx.ModelProto
) -> None:
    dynamic, fixed = describe(yolo11n), describe_model(fixed640)
    assert not fixed.input.dynamic
    assert (fixed.decode, fixed.preprocessing) == (dynamic.decode, dynamic.preprocessing)
    bare = onnx.ModelProto()
    bare.CopyFrom(fixed640)
    del bare.metadata_props[:]
    assert describe_model(bare).class_names == dynamic.class_names


@pytest.mark.demo_model
def test_describe_without_metadata_reads_the_shape(yolo11n: Path) -> None:
    model = read_onnx(yolo11n)
    del model.metadata_props[:]
    found = describe_model(model, {"input_size": 320})
    assert (found.decode, found.stride, found.input_size) == ("yolov8", 32, 320)
    assert found.class_names[0] == "person"


@pytest.mark.demo_model
@pytest.mark.parametrize("hw", [(384, 640), (640, 384), (320, 320)])
def test_fixed_export_is_reshaped_exactly(
    yolo11n: Path, fixed640: onnx.ModelProto, hw: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).random((1, 3, *hw), np.float32)
    expected = open_session(read_onnx(yolo11n)).run(None, {"images": image})[0]
    reshaped = reshape(fixed640, hw)
    actual = open_session(reshaped).run(None, {"images": image})[0]
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, atol=1e-3)
    found = describe_model(reshaped)
    assert (found.input.height, found.input.width) == hw
    assert found.input_size == max(hw)


@pytest.mark.demo_model
def test_dynamic_model_is_fixed_or_left_dynamic(yolo11n: Path) -> None:
    model = read_onnx(yolo11n)
    pinned = reshape(model, (384, 640), batch=1)
    assert graph_reading.dims(pinned.graph.input[0]) == (1, 3, 384, 640)
    assert graph_reading.dims(pinned.graph.output[0]) == (1, 84, 5040)
    assert can_reshape(model, None) is None


@pytest.mark.realdata
def test_describe_yolox(yolox: Path) -> None:
    found = describe(yolox)
    assert (found.decode, found.input_size, found.iou_threshold) == ("yolox", 416, 0.65)
    now = found.preprocessing
    assert (now.channel_order, now.scale, now.anchor) == ("bgr", 1.0, "top_left")
    assert found.class_names[0] == "person" and len(found.class_names) == 80


@pytest.mark.realdata
def test_segmentation_model_is_refused(data_root: Path) -> None:
    path = data_root.parent / "models" / "espnet_camvid_360x480.onnx"
    with pytest.raises(ModelError, match=r"'logits' \(1, 12, 360, 480\).*segmentation"):
        describe(path)
    assert summarize(path)["outputs"][0]["shape"] == [1, 12, 360, 480]


@pytest.mark.realdata
def test_reshaped_yolox_finds_the_same_objects(yolox: Path, data_root: Path) -> None:
    description = describe(yolox)
    model = read_onnx(yolox)
    square, wide = open_session(model), open_session(reshape(model, (256, 416)))
    compared = 0
    for image, _, _ in labelled(data_root, 24):
        crop = image[: image.shape[1] * 256 // 416]
        if crop.shape[0] * 416 < crop.shape[1] * 225:
            continue
        boxes, scores, ids = detect(square, crop, description)
        others, _, other_ids = detect(wide, crop, description, "rect")
        for box in boxes[(scores > 0.6)][:3]:
            same = others[other_ids == ids[np.flatnonzero((boxes == box).all(1))[0]]]
            assert len(same) and overlap(box, same).max() > 0.8
            compared += 1
    assert compared >= 10


@pytest.mark.realdata
def test_yolox_as_dynamic(yolox: Path) -> None:
    model = read_onnx(yolox)
    image = np.random.default_rng(0).random((1, 3, 320, 192), np.float32)
    output = open_session(reshape(model, None)).run(None, {"images": image})[0]
    assert output.shape == (1, 40 * 24 + 20 * 12 + 10 * 6, 85)


@pytest.mark.realdata
@pytest.mark.demo_model
def test_swapped_channels_of_a_real_model_are_named(yolo11n: Path, data_root: Path) -> None:
    """At 320 pixels, for speed; the loss by swapped channels is the same as at 640."""
    right = describe(yolo11n, {"input_size": 320})
    wrong = replace(right, preprocessing=replace(right.preprocessing, channel_order="bgr"))
    session = open_session(read_onnx(yolo11n))
    found = verify_preprocessing(wrong, fit_score(session, labelled(data_root, 32)))
    assert found.description.preprocessing == right.preprocessing
    assert len(found.mistakes) == 1
    assert found.mistakes[0].startswith("channel order: the model reads RGB, not BGR")


@pytest.mark.realdata
def test_wrong_scale_of_a_real_model_is_named(yolox: Path, data_root: Path) -> None:
    right = describe(yolox)
    wrong = replace(right, preprocessing=replace(right.preprocessing, scale=1 / 255))
    session = open_session(read_onnx(yolox))
    found = verify_preprocessing(wrong, fit_score(session, labelled(data_root, 16)))
    assert found.description.preprocessing == right.preprocessing
    assert len(found.mistakes) == 1
    assert "values from 0 to 255 (scale 1), not values from 0 to 1" in found.mistakes[0]
