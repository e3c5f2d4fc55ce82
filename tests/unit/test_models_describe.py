"""Recognizing detectors by shape and metadata, and refusing what is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from models_graphs import anchor_free, headless, model_of
from onnx import TensorProto, helper

from saccade.errors import ModelError
from saccade.models.coco_names import COCO_NAMES
from saccade.models.description import ModelDescription
from saccade.models.onnx_model import describe, describe_model

ULTRALYTICS = {
    "names": "{0: 'cat', 1: 'dog'}",
    "stride": "32",
    "imgsz": "[320, 480]",
    "license": "AGPL-3.0",
    "task": "detect",
}


def at_640(output: tuple[Any, ...], **kwargs: Any) -> ModelDescription:
    return describe_model(headless(output, shape=(1, 3, 640, 640), **kwargs))


def test_coco_names() -> None:
    assert len(COCO_NAMES) == len(set(COCO_NAMES)) == 80
    assert COCO_NAMES[:2] == ("person", "bicycle") and COCO_NAMES[-1] == "toothbrush"


@pytest.mark.parametrize(
    ("output", "raw", "operator", "decode", "classes", "transposed"),
    [
        ((1, 84, 8400), False, "Mul", "yolov8", 80, False),
        ((1, 5, 8400), False, "Mul", "yolov8", 1, False),
        ((1, 8400, 84), False, "Mul", "yolov8", 80, True),
        ((1, 25200, 85), False, "Mul", "yolov5", 80, False),
        ((1, 85, 25200), False, "Mul", "yolov5", 80, True),
        ((1, 8400, 85), True, "Mul", "yolox", 80, False),
        ((1, 85, 8400), True, "Mul", "yolox", 80, True),
        ((1, 8400, 85), False, "Exp", "yolov5", 80, False),
        ((1, 8400, 7), False, "Mul", "yolov5", 2, False),
    ],
)
def test_families(
    output: tuple[int, ...], raw: bool, operator: str, decode: str, classes: int, transposed: bool
) -> None:
    found = at_640(output, raw=raw, operator=operator)
    assert (found.decode, len(found.class_names)) == (decode, classes)
    assert found.transposed is transposed
    assert found.stride == 32 and found.input_size == 640


def test_preprocessing_follows_the_family() -> None:
    usual = at_640((1, 84, 8400)).preprocessing
    assert (usual.channel_order, usual.scale, usual.anchor) == ("rgb", 1 / 255, "center")
    for operator, raw in (("Mul", True), ("Exp", False)):
        megvii = at_640((1, 8400, 85), raw=raw, operator=operator).preprocessing
        assert (megvii.channel_order, megvii.scale, megvii.anchor) == ("bgr", 1.0, "top_left")


def test_thresholds_and_p6_strides() -> None:
    assert at_640((1, 84, 8400)).iou_threshold == 0.7
    assert at_640((1, 25200, 85)).iou_threshold == 0.6
    assert at_640((1, 8400, 85), raw=True).iou_threshold == 0.65
    assert at_640((1, 84, 8500)).stride == 64


def test_metadata_decides_names_size_and_license() -> None:
    model = headless(
        ("batch", 6, "anchors"), shape=("batch", 3, "height", "width"), metadata=ULTRALYTICS
    )
    found = describe_model(model)
    assert found.class_names == ("cat", "dog")
    assert (found.decode, found.input_size, found.stride) == ("yolov8", 480, 32)
    assert found.license == "AGPL-3.0"
    assert found.input.dynamic
    assert any("'imgsz' in the metadata" in sentence for sentence in found.evidence)


def test_symbolic_output_is_resolved_by_shape_inference() -> None:
    model = anchor_free((64, 64))
    helper_shape = model.graph.output[0].type.tensor_type.shape
    for axis, name in enumerate(("a", "b", "c")):
        helper_shape.dim[axis].dim_param = name
    found = describe_model(model)
    assert found.decode == "yolov8" and found.class_names == ("class_0", "class_1")
    assert "(1, 6, 84)" in " ".join(found.evidence)


def test_nhwc_and_uint8_input() -> None:
    nodes = [helper.make_node("Transpose", ["images"], ["chw"], perm=[0, 3, 1, 2])]
    inner = headless((1, 84, 8400))
    inner.graph.node[0].input[0] = "chw"
    model = model_of(
        [*nodes, *inner.graph.node],
        {"output0": (1, 84, 8400)},
        {t.name: onnx.numpy_helper.to_array(t) for t in inner.graph.initializer},
        (1, 640, 640, 3),
    )
    found = describe_model(model)
    assert (found.input.layout, found.input.height) == ("NHWC", 640)
    assert at_640((1, 84, 8400), dtype=TensorProto.UINT8).input.dtype == "uint8"


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({"scores": (1, 1000)}, ("'scores' (1, 1000)", "classifier")),
        ({"logits": (1, 12, 640, 640)}, ("'logits' (1, 12, 640, 640)", "segmentation")),
        ({"out": (1, 300, 6)}, ("(1, 300, 6)", "finished detections")),
        ({"out": (1, 84, 8401)}, ("(1, 84, 8401)", "YOLOv8/YOLO11 (1, 4+classes, anchors)")),
        ({"out": (1, 116, 8400), "masks": (1, 32, 160, 160)}, ("'masks' (1, 32, 160, 160)",)),
    ],
)
def test_not_a_detector(outputs: dict[str, tuple[int, ...]], words: tuple[str, ...]) -> None:
    nodes = [helper.make_node("Mul", ["images", "images"], [name]) for name in outputs]
    with pytest.raises(ModelError) as caught:
        describe_model(model_of(nodes, outputs, shape=(1, 3, 640, 640)))
    assert all(word in str(caught.value) for word in words), caught.value


def test_class_count_that_contradicts_the_names() -> None:
    model = headless((1, 84, 8400), shape=(1, 3, 640, 640), metadata=ULTRALYTICS)
    with pytest.raises(ModelError, match="room for 80 classes, but 2 class names"):
        describe_model(model)


def test_wrong_inputs() -> None:
    grey = headless((1, 84, 8400), shape=(1, 1, 640, 640))
    with pytest.raises(ModelError, match="An image was expected"):
        describe_model(grey)
    two = headless((1, 84, 8400), shape=(1, 3, 640, 640))
    two.graph.input.add().CopyFrom(
        helper.make_tensor_value_info("threshold", TensorProto.FLOAT, [1])
    )
    with pytest.raises(ModelError, match="2 inputs"):
        describe_model(two)


def test_overrides_are_used_and_recorded() -> None:
    model = headless(("b", 84, "n"), shape=("b", 3, "h", "w"))
    found = describe_model(
        model,
        {
            "input_size": 320,
            "channel_order": "bgr",
            "scale": "1/128",
            "mean": [1, 2, 3],
            "iou_threshold": 0.5,
            "class_names": [f"n{i}" for i in range(80)],
        },
    )
    assert found.input_size == 320 and found.iou_threshold == 0.5
    assert found.preprocessing.channel_order == "bgr"
    assert found.preprocessing.scale == 1 / 128
    assert found.preprocessing.mean == (1.0, 2.0, 3.0)
    assert found.class_names[0] == "n0"
    assert "channel_order = bgr: given by the user or the model's source." in found.evidence


def test_decode_override_beats_the_graph() -> None:
    model = headless((1, 8400, 85), shape=(1, 3, 640, 640))
    assert describe_model(model).decode == "yolov5"
    assert describe_model(model, {"decode": "yolox"}).decode == "yolox"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"chanel_order": "bgr"}, "Did you mean 'channel_order'"),
        ({"zzz": 1}, "Known are: input_size"),
        ({"channel_order": "brg"}, "expected 'rgb' or 'bgr'"),
        ({"scale": 0}, "positive factor"),
        ({"scale": "1/0"}, "positive factor"),
        ({"std": (1, 1)}, "three positive"),
        ({"pad_value": 300}, "0 to 255"),
        ({"decode": "yolo"}, "one of yolov8"),
        ({"iou_threshold": 1.5}, "above 0"),
        ({"class_names": "cat"}, "list of names"),
        ({"input_size": 320}, "fixed input of 640x640"),
        ({"stride": 48}, "not a multiple"),
    ],
)
def test_bad_overrides(overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        describe_model(headless((1, 84, 8400), shape=(1, 3, 640, 640)), overrides)
    assert words in str(caught.value)


def test_describe_reads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "modèle.onnx"
    onnx.save(headless((1, 84, 8400), shape=(1, 3, 640, 640)), path)
    assert describe(path).decode == "yolov8"
