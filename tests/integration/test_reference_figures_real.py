"""The naive pipeline reaches the reference figures of two real detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from saccade.data.images import read_image
from saccade.data.open import open_labelled
from saccade.models.files import model_file
from saccade.models.onnx_model import describe
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.pipeline import Pipeline
from saccade.tasks.detection import DetectionTask
from saccade.validate.detection_metrics import evaluate

pytestmark = pytest.mark.realdata

JUDGE_THRESHOLD = 0.001


def accuracy(model: Path, data_root: Path, **changes: Any) -> tuple[float, float]:
    """mAP50-95 and mAP50 of the naive pipeline on the validation images."""
    description = describe(model)
    config = PipelineConfig(
        task="detection",
        model=model_file(model),
        description=description,
        input_size=description.input_size,
        iou_threshold=description.iou_threshold,
        **changes,
    )
    dataset = open_labelled(data_root / "coco" / "data.yaml", description.class_names).val
    assert dataset is not None
    assert len(dataset) == 64
    with Pipeline(config) as pipeline:
        found = [pipeline.judge(read_image(i.path), JUDGE_THRESHOLD) for i in dataset.images]
    judged = evaluate(dataset, DetectionTask.collect(found))
    return judged.map50_95, judged.map50


def test_yolo11n_reaches_its_reference_figures(data_root: Path, yolo11n: Path) -> None:
    map50_95, map50 = accuracy(yolo11n, data_root, nms="vectorized")
    assert map50_95 == pytest.approx(0.468, abs=0.002)
    assert map50 == pytest.approx(0.628, abs=0.002)


def test_yolox_reaches_its_reference_figures(data_root: Path) -> None:
    model = data_root.parent / "models" / "yolox_nano_coco.onnx"
    map50_95, map50 = accuracy(model, data_root, nms="loop")
    assert map50_95 == pytest.approx(0.345, abs=0.002)
    assert map50 == pytest.approx(0.513, abs=0.002)
