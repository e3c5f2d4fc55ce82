"""The reference figures of YOLO11n, reached with a pipeline that shares no code with saccade's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from saccade.data.contract import Dataset, LabelledImage
from saccade.tasks.detections import Detections
from saccade.validate.agreement import agreement, agreement_drop
from saccade.validate.bootstrap import replicates, resample_weights
from saccade.validate.detection_metrics import evaluate
from saccade.validate.drop_bound import paired_drop
from saccade.validate.guard import judge

pytestmark = pytest.mark.realdata

SIZE = 640


def _read_labels(path: Path, width: int, height: int) -> NDArray[np.float64]:
    """Rows of class, x1, y1, x2, y2 in pixels."""
    filled = path.is_file() and path.stat().st_size
    rows = np.loadtxt(path, ndmin=2) if filled else np.zeros((0, 5))
    cls, x, y, w, h = rows.T
    sides = [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]
    return np.stack([cls, *sides], axis=1)


def _dataset(folder: Path, split: str) -> Dataset:
    images = []
    for path in sorted((folder / "images" / split).glob("*.jpg")):
        height, width = cv2.imread(str(path)).shape[:2]
        rows = _read_labels(folder / "labels" / split / f"{path.stem}.txt", width, height)
        images.append(
            LabelledImage(
                path=path,
                width=width,
                height=height,
                boxes=rows[:, 1:].astype(np.float32),
                class_ids=rows[:, 0].astype(np.int64),
                crowd=np.zeros(len(rows), bool),
            )
        )
    names = tuple(str(c) for c in range(80))
    return Dataset(name=split, images=tuple(images), class_names=names, labelled=True)


def _letterbox(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float, int, int]:
    height, width = image.shape[:2]
    scale = min(SIZE / height, SIZE / width)
    new_w, new_h = round(width * scale), round(height * scale)
    left, top = round((SIZE - new_w) / 2 - 0.1), round((SIZE - new_h) / 2 - 0.1)
    canvas = np.full((SIZE, SIZE, 3), 114, np.uint8)
    canvas[top : top + new_h, left : left + new_w] = cv2.resize(image, (new_w, new_h))
    return canvas[..., ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255, scale, left, top


def _nms(boxes: NDArray[np.float32], scores: NDArray[np.float32], iou: float) -> list[int]:
    """Greedy NMS over boxes sorted by falling score."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    alive = np.argsort(-scores, kind="stable")
    keep = []
    while alive.size:
        first, rest = alive[0], alive[1:]
        keep.append(int(first))
        top_left = np.maximum(boxes[first, :2], boxes[rest, :2])
        bottom_right = np.minimum(boxes[first, 2:], boxes[rest, 2:])
        inter = np.prod(np.clip(bottom_right - top_left, 0, None), axis=1)
        alive = rest[inter / (areas[first] + areas[rest] - inter) <= iou]
    return keep


def _decode(raw: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """``(84, A)`` outputs to boxes in input pixels, scores and classes; one class per anchor."""
    keep = raw[4:].max(axis=0) > 0.001
    centres, sizes, probs = raw[:2, keep].T, raw[2:4, keep].T, raw[4:, keep]
    scores, class_ids = probs.max(axis=0), probs.argmax(axis=0)
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    # Classes are moved apart so that one pass of NMS treats each on its own.
    kept = _nms(boxes + class_ids[:, None].astype(np.float32) * 7680, scores, 0.7)[:300]
    return boxes[kept], scores[kept], class_ids[kept]


def _detect(session: onnxruntime.InferenceSession, dataset: Dataset) -> Iterator[tuple]:
    name = session.get_inputs()[0].name
    for image in dataset.images:
        blob, scale, left, top = _letterbox(cv2.imread(str(image.path)))
        boxes, scores, class_ids = _decode(session.run(None, {name: blob})[0][0])
        boxes = (boxes - np.array([left, top, left, top], np.float32)) / np.float32(scale)
        limit = np.array([image.width, image.height] * 2, np.float32)
        yield np.clip(boxes, 0, limit), scores, class_ids


@pytest.fixture(scope="module")
def validation(data_root: Path) -> Dataset:
    return _dataset(data_root / "coco", "validation")


@pytest.fixture(scope="module")
def detections(validation: Dataset, yolo11n: Path) -> Detections:
    session = onnxruntime.InferenceSession(str(yolo11n), providers=["CPUExecutionProvider"])
    return Detections.of(_detect(session, validation))


def _with_scores(detections: Detections, noise: float) -> Detections:
    """The same boxes with disturbed scores: a candidate that is a little worse."""
    generator = np.random.default_rng(0)
    return Detections.of(
        (boxes, np.clip(scores + generator.normal(0, noise, len(scores)), 0, 1), class_ids)
        for boxes, scores, class_ids in zip(
            detections.boxes, detections.scores, detections.class_ids, strict=True
        )
    )


def test_reference_figures_are_reached(validation: Dataset, detections: Detections) -> None:
    accuracy = evaluate(validation, detections)
    assert accuracy.map50_95 == pytest.approx(0.468, abs=0.002)
    assert accuracy.map50 == pytest.approx(0.628, abs=0.002)


def test_bootstrap_at_weight_one_is_cocoeval(validation: Dataset, detections: Detections) -> None:
    accuracy = evaluate(validation, detections)
    once = replicates(accuracy, np.ones((1, len(validation)), np.int64))
    assert once.map50_95.drawn[0] == pytest.approx(accuracy.map50_95, abs=1e-12)
    assert once.map50.drawn[0] == pytest.approx(accuracy.map50, abs=1e-12)
    for class_id, class_ap in accuracy.per_class.items():
        assert once.per_class[class_id].drawn[0] == pytest.approx(class_ap, abs=1e-12)


def test_bootstrap_is_cocoeval_on_repeated_images(
    validation: Dataset, detections: Detections
) -> None:
    weights = resample_weights(len(validation), 2, seed=3)
    drawn = replicates(evaluate(validation, detections), weights)
    for row, counts in enumerate(weights):
        order = np.repeat(np.arange(len(validation)), counts)
        literal = evaluate(
            Dataset("repeated", tuple(validation.images[i] for i in order), (), True),
            Detections.of(
                (detections.boxes[i], detections.scores[i], detections.class_ids[i]) for i in order
            ),
        )
        assert drawn.map50_95.drawn[row] == pytest.approx(literal.map50_95, abs=1e-12)
        assert drawn.map50.drawn[row] == pytest.approx(literal.map50, abs=1e-12)


def test_the_guard_keeps_the_same_and_not_the_disturbed(
    validation: Dataset, detections: Detections
) -> None:
    weights = resample_weights(len(validation), 300)
    base = replicates(evaluate(validation, detections), weights)
    same = paired_drop(base.map50_95, base.map50_95)
    assert judge(same, 0.01, "lossy", 1, len(validation)).decision == "keep"
    worse = replicates(evaluate(validation, _with_scores(detections, 0.3)), weights)
    drop = paired_drop(base.map50_95, worse.map50_95)
    assert drop.lower > 0.01
    assert judge(drop, 0.01, "near_lossless", 1, len(validation)).decision == "reject"


def test_agreement_with_itself_is_one(validation: Dataset, detections: Detections) -> None:
    weights = resample_weights(len(validation), 100)
    same = agreement(validation, detections, detections)
    assert same.value == 1.0
    assert 0 < agreement_drop(same, weights).upper < 0.02
    other = agreement(validation, detections, _with_scores(detections, 0.1))
    assert 0.3 < other.value < 1.0
    assert agreement_drop(other, weights).lower > 0
