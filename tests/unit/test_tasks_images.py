"""Classification and segmentation: models described, outputs decoded, results drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from saccade import plugins
from saccade.errors import ModelError
from saccade.models.description import InputSpec, ModelDescription, Preprocessing
from saccade.pipeline.config import ModelFile, PipelineConfig
from saccade.pipeline.geometry import center_cropped, letterbox, stretched
from saccade.tasks.classification import ClassificationTask
from saccade.tasks.results import ClassificationResult, SegmentationResult
from saccade.tasks.segmentation import SegmentationTask


def config_of(
    task: str, decode: str, classes: int, hw: tuple[int, int] = (32, 32)
) -> PipelineConfig:
    description = ModelDescription(
        input=InputSpec("images", "NCHW", (1, 3, *hw), "float32"),
        preprocessing=Preprocessing(),
        decode=decode,
        input_size=max(hw),
        stride=1,
        class_names=tuple(f"class_{i}" for i in range(classes)),
    )
    return PipelineConfig(task, ModelFile("a.onnx", "0" * 64), description, max(hw), 0.7)


BOX = stretched((32, 32), (32, 32))


def test_logits_become_probabilities_and_a_background_is_left_out() -> None:
    logits = np.array([[9.0, 1.0, 2.0, 3.0]], np.float32)
    plain = ClassificationTask.postprocessor(config_of("classification", "logits", 4))
    result = plain([logits], BOX)
    assert result.scores.sum() == pytest.approx(1)
    assert result.top(2)[0][0] == 0
    without = ClassificationTask.postprocessor(config_of("classification", "logits+background", 3))
    assert [class_id for class_id, _ in without([logits], BOX).top(3)] == [2, 1, 0]
    given = ClassificationTask.postprocessor(config_of("classification", "probabilities", 4))
    assert np.array_equal(given([logits.reshape(1, 4, 1, 1)], BOX).scores, logits[0])


def test_unknown_decodes_are_refused() -> None:
    for task in ("classification", "segmentation"):
        with pytest.raises(ModelError, match="Unknown decode"):
            plugins.load("tasks", task).postprocessor(config_of(task, "yolov8", 4))


@pytest.mark.parametrize("decode", ["planes", "indices"])
def test_masks_come_back_at_the_size_of_the_frame(decode: str) -> None:
    ids = np.zeros((16, 32), np.int64)
    ids[:8, 16:] = 2
    outputs: Any = ids[None] if decode == "indices" else np.eye(3)[ids].transpose(2, 0, 1)[None]
    config = config_of("segmentation", decode, 3, (16, 32))
    box = stretched((64, 128), (16, 32))
    mask = SegmentationTask.postprocessor(config)([outputs.astype(np.float32)], box).mask
    assert mask.shape == (64, 128)
    assert np.array_equal(mask, np.kron(ids, np.ones((4, 4))))


def test_a_letterboxed_mask_has_no_border() -> None:
    box = letterbox((16, 32), 32, 32, "square", "center")
    ids = np.full((32, 32), 9)
    ids[box.top : box.top + 16] = 1
    config = config_of("segmentation", "indices", 10)
    mask = SegmentationTask.postprocessor(config)([ids[None]], box).mask
    assert mask.shape == (16, 32) and (mask == 1).all()


def test_the_centre_crop_is_what_resize_then_crop_looks_at() -> None:
    # torchvision: the shorter side to 256, then the central 224 of it.
    box = center_cropped((512, 1024), (224, 224), 224 / 256)
    assert box.crop == ((512 - 448) // 2, (1024 - 448) // 2, 448, 448)


def test_drawing_leaves_the_image_alone() -> None:
    pixels = np.zeros((64, 96, 3), np.uint8)
    scores = np.array([0.1, 0.9], np.float32)
    drawn = ClassificationTask.draw(pixels, ClassificationResult(scores), ("cat", "dog"))
    mask = np.ones(pixels.shape[:2], np.uint8)
    tinted = SegmentationTask.draw(pixels, SegmentationResult(mask), ("road", "sky"))
    assert drawn.any() and tinted.any() and not pixels.any()


def classifier(tmp_path: Path, outputs: int, softmax: bool = False) -> Path:
    weights = np.zeros((outputs, 3), np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights"], ["scores"], transB=1),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["scores"], ["shares"]))
    return save(
        tmp_path, nodes, {"weights": weights}, "shares" if softmax else "scores", (1, outputs)
    )


def save(
    folder: Path,
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    output: str,
    shape: tuple[int, ...],
    kind: int = onnx.TensorProto.FLOAT,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, (1, 3, 64, 96))],
        [helper.make_tensor_value_info(output, kind, shape)],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize(
    ("outputs", "softmax", "decode", "classes"),
    [
        (1000, False, "logits", 1000),
        (1000, True, "probabilities", 1000),
        (1001, True, "probabilities+background", 1000),
        (7, False, "logits", 7),
    ],
)
def test_classifiers_are_described(
    tmp_path: Path, outputs: int, softmax: bool, decode: str, classes: int
) -> None:
    found = ClassificationTask.describe(classifier(tmp_path, outputs, softmax))
    assert (found.decode, len(found.class_names)) == (decode, classes)
    assert found.preprocessing.fit == "center_crop"
    assert found.input_hw == (64, 96)


@pytest.mark.parametrize(
    ("outputs", "said", "decode", "classes", "told"),
    [
        (1001, {"background": "none"}, "logits", 1001, "every output is a class"),
        (6, {"background": "first"}, "logits+background", 5, "is left out"),
        (1001, {"class_names": [f"n{i}" for i in range(1001)]}, "logits", 1001, "none is back"),
        (4, {"class_names": ["a", "b", "c"]}, "logits+background", 3, "the first is background"),
        (1001, {}, "logits+background", 1000, "background: none"),
    ],
)
def test_whether_the_first_output_is_background_can_be_said(
    tmp_path: Path, outputs: int, said: dict[str, Any], decode: str, classes: int, told: str
) -> None:
    found = ClassificationTask.describe(classifier(tmp_path, outputs, False), said)
    assert (found.decode, len(found.class_names)) == (decode, classes)
    assert any(told in sentence for sentence in found.evidence)


def test_a_background_behind_the_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is for detectors"):
        ClassificationTask.describe(classifier(tmp_path, 5, False), {"background": "last"})


def test_segmenters_are_described(tmp_path: Path) -> None:
    weights = {"weights": np.zeros((5, 3, 1, 1), np.float32)}
    conv = helper.make_node("Conv", ["images", "weights"], ["planes"])
    found = SegmentationTask.describe(save(tmp_path, [conv], weights, "planes", (1, 5, 64, 96)))
    assert (found.decode, len(found.class_names), found.input_hw) == ("planes", 5, (64, 96))
    best = helper.make_node("ArgMax", ["planes"], ["ids"], axis=1, keepdims=0)
    path = save(tmp_path, [conv, best], weights, "ids", (1, 64, 96), onnx.TensorProto.INT64)
    with pytest.raises(ModelError, match="class_names"):
        SegmentationTask.describe(path)
    named = SegmentationTask.describe(path, {"class_names": list("abcde")})
    assert named.decode == "indices"


def test_a_model_of_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model for semantic segmentation"):
        SegmentationTask.describe(classifier(tmp_path, 10))
    weights = {"weights": np.zeros((5, 3, 1, 1), np.float32)}
    conv = helper.make_node("Conv", ["images", "weights"], ["planes"])
    path = save(tmp_path, [conv], weights, "planes", (1, 5, 64, 96))
    with pytest.raises(ModelError, match="not a classifier"):
        ClassificationTask.describe(path)
