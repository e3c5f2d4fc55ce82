"""Recognizing detectors that give boxes, by shapes, names and the values seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models_graphs import model_of
from onnx import TensorProto, helper

from saccade.errors import ModelError
from saccade.models.coco_names import COCO_CATEGORIES, COCO_NAMES
from saccade.models.description import ModelDescription
from saccade.models.inspect import summarize
from saccade.models.onnx_model import describe, describe_model
from saccade.playbook.draft import draft_spec
from saccade.spec import make_spec, read_spec
from saccade.testing.head_variants import detr_style, nms_style, ssd_style
from saccade.testing.tiny_yolo import HW, tiny_yolo

RANDOM = np.random.default_rng(0)
HUNDRED = RANDOM.random((1, 100, 2)) * 200
CORNERS = np.concatenate([HUNDRED, HUNDRED + 40], axis=2)


def giving(
    outputs: dict[str, np.ndarray], *, extra: str = "", names: str = "", hw: int = 320
) -> onnx.ModelProto:
    """A model that gives these values whatever it sees, and contains the operator ``extra``."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
    ]
    constants: dict[str, np.ndarray] = {"nothing": np.array(0, np.float32)}
    for name, value in outputs.items():
        whole = np.issubdtype(value.dtype, np.integer)
        constants[f"{name}_value"] = value.astype(np.float32)
        nodes.append(helper.make_node("Add", ["zero", f"{name}_value"], [f"{name}_sum"]))
        kind = TensorProto.INT64 if whole else TensorProto.FLOAT
        nodes.append(helper.make_node("Cast", [f"{name}_sum"], [name], to=kind))
    if extra == "TopK":
        constants["k"] = np.array([1])
        nodes.append(helper.make_node("Reshape", ["mean", "k"], ["one"]))
        nodes.append(helper.make_node("TopK", ["one", "k"], ["best", "place"]))
    shapes = {name: value.shape for name, value in outputs.items()}
    metadata = {"names": names} if names else None
    model = model_of(nodes, shapes, constants, (1, 3, hw, hw), metadata)
    for value in model.graph.output:
        if np.issubdtype(outputs[value.name].dtype, np.integer):
            value.type.tensor_type.elem_type = TensorProto.INT64
    return model


def softmaxed(rows: int, columns: int, background: int | None) -> np.ndarray:
    logits = RANDOM.normal(0, 1, (1, rows, columns))
    if background is not None:
        logits[..., background] += 9
    shares = np.exp(logits)
    return np.asarray(shares / shares.sum(axis=2, keepdims=True))


def grid(rows: int, columns: int) -> np.ndarray:
    """Boxes of anchors row by row, ``(1, rows * columns, 4)`` xyxy pixels."""
    y, x = np.mgrid[:rows, :columns].reshape(2, -1) * 8.0
    return np.stack([x, y, x + 20, y + 30], axis=1)[None]


def test_ssd_with_background() -> None:
    boxes = grid(40, 40)
    for background, column in (("first", 0), ("last", -1)):
        found = describe_model(giving({"b": boxes, "s": softmaxed(1600, 21, column)}))
        assert found.decode == "ssd" and len(found.class_names) == 20
        outputs = found.outputs
        assert outputs is not None
        assert (outputs.background, outputs.multi_label) == (background, True)
        assert (outputs.box_format, outputs.box_unit) == ("xyxy", "pixels")
        assert found.preprocessing.fit == "stretch" and found.iou_threshold == 0.45


def test_the_order_of_corners_is_seen_in_the_order_of_anchors() -> None:
    scores = RANDOM.random((1, 1600, 3))
    turned = grid(40, 40)[..., [1, 0, 3, 2]] / 320
    outputs = describe_model(giving({"b": turned, "s": scores})).outputs
    assert outputs is not None
    assert (outputs.box_format, outputs.box_unit) == ("yxyx", "normalized")


def test_the_order_of_the_outputs_does_not_matter() -> None:
    found = describe_model(giving({"s": RANDOM.random((1, 1600, 80)), "b": grid(40, 40)}))
    assert found.outputs is not None
    assert (found.outputs.boxes, found.outputs.scores) == (1, 0)
    assert found.class_names == COCO_NAMES
    assert found.outputs.background == "none" and not found.outputs.multi_label
    assert found.preprocessing.fit == "letterbox"


def test_names_tell_whether_there_is_a_background() -> None:
    """Logits that nothing dominates, as random weights give."""
    logits = RANDOM.normal(0, 3, (1, 1600, 3))
    outputs = {"b": grid(40, 40), "s": logits}
    each = describe_model(giving(outputs, names="['a', 'b', 'c']")).outputs
    assert each is not None and (each.scores_as, each.background) == ("sigmoid", "none")
    one_less = describe_model(giving(outputs, names="['a', 'b']")).outputs
    assert one_less is not None
    assert (one_less.scores_as, one_less.background) == ("softmax", "first")
    with pytest.raises(ModelError, match="room for 3 classes, but 5 class names"):
        describe_model(giving(outputs, names="['a', 'b', 'c', 'd', 'e']"))


def test_coco_by_category_ids() -> None:
    found = describe_model(giving({"b": grid(40, 40), "s": softmaxed(1600, 91, 0)}))
    assert found.class_names == COCO_CATEGORIES
    assert len(COCO_CATEGORIES) == 90
    assert COCO_CATEGORIES[0] == "person" and COCO_CATEGORIES[89] == "toothbrush"
    assert COCO_CATEGORIES[11] == "unused 12" and COCO_CATEGORIES[12] == "stop sign"


def test_detr() -> None:
    boxes = RANDOM.random((1, 100, 4))
    logits = RANDOM.normal(0, 1, (1, 100, 92))
    logits[..., -1] += 9
    found = describe_model(giving({"logits": logits, "pred_boxes": boxes}, extra="TopK"))
    assert found.decode == "detr" and found.outputs is not None
    assert (found.outputs.scores_as, found.outputs.background) == ("softmax", "last")
    assert (found.outputs.box_format, found.outputs.box_unit) == ("cxcywh", "normalized")
    assert found.preprocessing.mean[0] == 0.485 and len(found.class_names) == 91


def test_rt_detr_in_two_outputs_and_in_one() -> None:
    boxes = RANDOM.random((1, 100, 4))
    logits = RANDOM.normal(-4, 1, (1, 100, 80))
    two = describe_model(giving({"scores": logits, "boxes": boxes}, extra="TopK"))
    assert two.outputs is not None
    assert (two.decode, two.outputs.scores_as, two.outputs.multi_label) == ("detr", "sigmoid", True)
    assert not any(two.preprocessing.mean) and two.preprocessing.fit == "stretch"
    joined = np.concatenate([boxes, RANDOM.random((1, 100, 80))], axis=2)
    one = describe_model(giving({"output0": joined}))
    assert one.outputs is not None and one.outputs.joined
    assert (one.decode, one.outputs.scores_as) == ("detr", "probabilities")


def test_finished_rows() -> None:
    labels = RANDOM.integers(0, 80, (1, 100, 1))
    rows = np.concatenate([CORNERS, RANDOM.random((1, 100, 1)), labels], axis=2)
    found = describe_model(giving({"output0": rows}))
    assert found.decode == "nms_inside" and found.outputs is not None
    assert found.outputs.joined and found.class_names == COCO_NAMES
    assert (found.outputs.box_format, found.outputs.box_unit) == ("xyxy", "pixels")
    assert not any("NMS threshold" in sentence for sentence in found.evidence)


@pytest.mark.parametrize("count", [100, 1, 0])
def test_finished_rows_with_the_number_of_the_image(count: int) -> None:
    labels = RANDOM.integers(0, 80, (100, 1))
    columns = [np.zeros((100, 1)), CORNERS[0], labels, RANDOM.random((100, 1))]
    rows = np.concatenate(columns, axis=1)[:count]
    found = describe_model(giving({"output": rows}))
    assert found.decode == "nms_inside" and found.outputs is not None
    assert found.outputs.row == "batch_box_label_score" and found.outputs.joined
    assert found.class_names == COCO_NAMES
    assert any("image, box, class and score" in sentence for sentence in found.evidence)


def test_torchvision_and_tensorflow_outputs() -> None:
    scores = RANDOM.random(100)
    labels = RANDOM.integers(1, 91, 100)
    labels[0] = 90
    torchvision = {"boxes": CORNERS[0], "labels": labels, "scores": scores}
    found = describe_model(giving(torchvision))
    assert found.outputs is not None and found.decode == "nms_inside"
    assert (found.outputs.boxes, found.outputs.labels, found.outputs.scores) == (0, 1, 2)
    assert found.class_names[90] == "toothbrush"  # labels are COCO's ids
    tensorflow = {
        "detection_boxes": CORNERS / 320,
        "detection_classes": labels[None].astype(np.float64),
        "detection_scores": scores[None],
        "num_detections": np.array([100.0]),
        "raw_detection_boxes": RANDOM.random((1, 500, 4)),
        "raw_detection_scores": RANDOM.random((1, 500, 91)),
    }
    found = describe_model(giving(tensorflow))
    outputs = found.outputs
    assert outputs is not None and outputs.count == 3
    assert (outputs.box_format, outputs.box_unit) == ("yxyx", "normalized")
    assert outputs.first_label == 1 and found.class_names == COCO_CATEGORIES


@pytest.mark.parametrize(
    "outputs",
    [
        {"scores": RANDOM.random((1, 1000))},
        {"scores": RANDOM.random((1, 7))},
        {"features": RANDOM.normal(0, 3, (1, 197, 768))},
        {"boxes": grid(40, 40)},
        {"boxes": grid(40, 40), "scores": RANDOM.random((1, 21, 1600))},
        {"map": RANDOM.random((1, 12, 40, 40))},
    ],
)
def test_what_is_no_detector(outputs: dict[str, np.ndarray]) -> None:
    with pytest.raises(ModelError, match=r"is not a detector.*separate boxes"):
        describe_model(giving(outputs))


def test_overrides_have_the_last_word() -> None:
    model = giving({"b": grid(40, 40), "s": RANDOM.random((1, 1600, 3))})
    found = describe_model(
        model, {"box_format": "yxyx", "box_unit": "normalized", "multi_label": True}
    )
    assert found.outputs is not None and found.outputs.multi_label
    assert (found.outputs.box_format, found.outputs.box_unit) == ("yxyx", "normalized")
    assert "box_format = yxyx: given by the user or the model's source." in found.evidence
    background = describe_model(model, {"background": "last"})
    assert len(background.class_names) == 2
    assert describe_model(model, {"decode": "detr"}).decode == "detr"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"box_format": "xywh"}, "expected 'xyxy' or 'yxyx' or 'cxcywh'"),
        ({"multi_label": 1}, "true or false"),
        ({"first_label": -1}, "whole number from 0"),
        ({"decode": "nms_inside"}, "look like scores of every class"),
        ({"decode": "yolov8"}, "is not a detector"),
    ],
)
def test_bad_overrides(overrides: dict[str, Any], words: str) -> None:
    model = giving({"b": grid(40, 40), "s": RANDOM.random((1, 1600, 3))})
    with pytest.raises(ModelError) as caught:
        describe_model(model, overrides)
    assert words in str(caught.value)


def test_settings_of_outputs_are_refused_for_a_yolo() -> None:
    model = tiny_yolo((64, 96))
    with pytest.raises(ModelError, match="box_unit is about boxes that the graph gives"):
        describe_model(model, {"box_unit": "pixels"})


def described(model: onnx.ModelProto) -> ModelDescription:
    return describe_model(model, {"class_names": ["cat", "dog"], "fit": "letterbox"})


def test_rewritten_heads_are_what_they_stand_for() -> None:
    whole = tiny_yolo()
    assert described(nms_style(whole)).decode == "nms_inside"
    assert described(nms_style(whole, fill=20)).decode == "nms_inside"
    apart = described(nms_style(whole, joined=False))
    assert apart.outputs is not None and apart.outputs.labels == 2
    limits = "boxes per class 300, IoU 0.7, score 0.001"
    assert any(limits in sentence for sentence in apart.evidence)
    for softmax in (False, True):
        found = described(detr_style(whole, HW, softmax=softmax, queries=60))
        assert found.decode == "detr" and found.outputs is not None
        assert (found.outputs.background == "last") is softmax


def test_a_draft_says_what_was_found_and_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / "rows.onnx"
    path.write_bytes(ssd_style(tiny_yolo()).SerializeToString())
    overrides = {"decode": "ssd", "box_unit": "pixels"}
    before = describe(path, overrides)
    assert summarize(path)["outputs"][1]["name"] == "scores_"
    text, _ = draft_spec(path, None, None, tmp_path)
    assert "#   box_format: " in text
    lines = text.splitlines()
    start = lines.index("# overrides:")
    lines[start:] = [line.removeprefix("# ") for line in lines[start:]]
    spec_path = tmp_path / "spec.yaml"
    spec_path.write_text("\n".join(lines))
    spec = make_spec(read_spec(spec_path), tmp_path)
    assert describe(path, spec.overrides.given()).outputs is not None
    assert before.outputs is not None
