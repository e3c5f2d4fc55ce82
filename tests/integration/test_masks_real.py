"""YOLO11n with masks on real images: described, decoded both ways, reshaped, judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from saccade.data.contract import Dataset
from saccade.data.images import read_image
from saccade.data.open import open_labelled
from saccade.models.files import model_file
from saccade.models.graph_reading import with_input_shape
from saccade.models.onnx_run import run_once
from saccade.models.reshape import can_reshape, reshape
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.pipeline import Pipeline
from saccade.tasks.detections import Detections
from saccade.tasks.instance_segmentation import InstanceSegmentationTask
from saccade.testing.sample_segments import write_segments
from saccade.testing.yolo_seg import with_masks
from saccade.testing.yolo_seg_fit import box_branches, write_yolo11n_seg
from saccade.validate.bootstrap import resample_weights
from saccade.validate.instance_segmentation import InstanceSegmentationJudge

pytestmark = [pytest.mark.realdata, pytest.mark.demo_model]

TASK = "instance_segmentation"
FITTED_IMAGES = 40
# Images whose masks are decoded in both ways.
BOTH_WAYS = 12


@pytest.fixture(scope="module")
def polygons(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    path = write_segments(data_root / "coco", tmp_path_factory.mktemp("segments"))
    splits = open_labelled(path, None, TASK)
    assert splits.train is not None and splits.val is not None
    return splits.train, splits.val


@pytest.fixture(scope="module")
def model(
    yolo11n: Path, polygons: tuple[Dataset, Dataset], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    some = replace(polygons[0], images=polygons[0].images[:FITTED_IMAGES])
    target = tmp_path_factory.mktemp("model") / "yolo11n-seg.onnx"
    return write_yolo11n_seg(yolo11n, some, target)


def config_of(path: Path, **changes: object) -> PipelineConfig:
    described = InstanceSegmentationTask.describe(path)
    naive = PipelineConfig(
        TASK, model_file(path), described, described.input_size, described.iou_threshold
    )
    return replace(naive, **{"nms": "vectorized", "preprocessor": "fused", **changes})  # type: ignore[arg-type]


def found_on(config: PipelineConfig, dataset: Dataset) -> Detections:
    with Pipeline(config) as pipeline:
        results = [pipeline.judge(read_image(i.path), 0.001) for i in dataset.images]
    return InstanceSegmentationTask.collect(results)


def test_masks_mean_something_and_both_ways_give_them(
    model: Path, polygons: tuple[Dataset, Dataset]
) -> None:
    dataset = polygons[1]
    fast = found_on(config_of(model, masks="cropped"), dataset)
    weights = resample_weights(len(dataset), 50)
    values = InstanceSegmentationJudge.scored(dataset, fast, weights).values
    # The boxes are YOLO11n's; the masks are the work of a linear map on few images.
    assert values["map50_95"] > 0.44
    assert values["mask_map50"] > 0.3
    assert values["mask_map50_95"] > 0.1
    some, weights = replace(dataset, images=dataset.images[:BOTH_WAYS]), resample_weights(BOTH_WAYS)
    fast = found_on(config_of(model, masks="cropped"), some)
    common = found_on(config_of(model, masks="whole"), some)
    assert InstanceSegmentationTask.same(fast, common)
    assert InstanceSegmentationJudge.agreement(some, common, fast, weights).estimate < 0.001


def test_the_model_takes_other_shapes(model: Path) -> None:
    whole = onnx.load(str(model))
    fixed = with_input_shape(whole, "images", [1, 3, 640, 640])
    assert can_reshape(fixed, (384, 640)) is None
    pixels = np.random.default_rng(0).random((1, 3, 384, 640), np.float32)
    expected = run_once(whole, {"images": pixels})
    found = run_once(reshape(fixed, (384, 640)), {"images": pixels})
    assert [a.shape for a in found] == [(1, 116, 5040), (1, 32, 96, 160)]
    for a, b in zip(found, expected, strict=True):
        assert np.allclose(a, b, atol=1e-2)


def test_without_data_every_mask_is_its_box(
    yolo11n: Path, polygons: tuple[Dataset, Dataset], tmp_path: Path
) -> None:
    path = tmp_path / "boxes.onnx"
    onnx.save(with_masks(onnx.load(str(yolo11n)), box_branches()), str(path))
    with Pipeline(config_of(path, masks="cropped")) as pipeline:
        result = pipeline(polygons[1].images[0].path)
    assert len(result) > 0 and result.masks is not None
    assert all(crop.all() for crop in result.masks.crops)


def test_openvino_gives_the_same_objects(model: Path, polygons: tuple[Dataset, Dataset]) -> None:
    pytest.importorskip("openvino")
    some = replace(polygons[1], images=polygons[1].images[:6])
    here = found_on(config_of(model, masks="cropped"), some)
    there = found_on(config_of(model, masks="cropped", runtime="openvino"), some)
    drop = InstanceSegmentationJudge.agreement(some, here, there, resample_weights(6, 20))
    assert drop.estimate < 0.02
