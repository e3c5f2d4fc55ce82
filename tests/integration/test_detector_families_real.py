"""YOLO11n with the endings of other families, and a real SSD: the same accuracy, the same boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from saccade.data.contract import Dataset
from saccade.data.images import read_image
from saccade.data.open import open_labelled
from saccade.models.coco_names import COCO_NAMES
from saccade.models.description import BoxOutputs, ModelDescription
from saccade.models.files import model_file
from saccade.models.onnx_file import read_onnx
from saccade.models.onnx_model import describe
from saccade.models.reshape import can_reshape, reshape
from saccade.models.verify import verify_preprocessing
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.pipeline import Pipeline
from saccade.tasks.detection import DetectionTask
from saccade.tasks.results import DetectionResult
from saccade.testing.head_variants import detr_style, nms_style, ssd_style
from saccade.validate.detection_metrics import evaluate

pytestmark = [pytest.mark.realdata, pytest.mark.demo_model]

HW = (640, 640)
TOLERANCE = 0.002
# Images on which the endings are compared; test_reference_figures_real has the figures of all.
JUDGED = 24
# What the tests know better than a file without its family's history can say.
LETTERBOX = {"fit": "letterbox", "mean": (0, 0, 0), "std": (1, 1, 1)}


@dataclass(frozen=True)
class Variant:
    """How YOLO11n is made to end, and what must be found out about it."""

    build: Callable[[onnx.ModelProto], onnx.ModelProto]
    decode: str
    outputs: BoxOutputs
    overrides: dict[str, Any] = field(default_factory=dict)


ROWS = BoxOutputs(scores=0)
SHARES = BoxOutputs(1, 0, box_format="cxcywh", box_unit="normalized")
VARIANTS = {
    "boxes and scores": Variant(ssd_style, "ssd", BoxOutputs()),
    "normalized yxyx": Variant(
        lambda model: ssd_style(model, box_format="yxyx", input_hw=HW),
        "ssd",
        BoxOutputs(box_format="yxyx", box_unit="normalized"),
    ),
    "background": Variant(
        lambda model: ssd_style(model, box_format="cxcywh", background=True),
        "ssd",
        BoxOutputs(box_format="cxcywh", background="first", multi_label=True),
        {**LETTERBOX, "iou_threshold": 0.7},
    ),
    "NMS inside": Variant(nms_style, "nms_inside", ROWS),
    "NMS inside, 300 rows": Variant(lambda model: nms_style(model, fill=300), "nms_inside", ROWS),
    "NMS inside, three outputs": Variant(
        lambda model: nms_style(model, joined=False, first_label=1),
        "nms_inside",
        BoxOutputs(labels=2, first_label=1),
        {"first_label": 1},
    ),
    "RT-DETR": Variant(
        lambda model: detr_style(model, HW),
        "detr",
        replace(SHARES, scores_as="sigmoid", multi_label=True),
        LETTERBOX,
    ),
    "DETR": Variant(
        lambda model: detr_style(model, HW, softmax=True),
        "detr",
        replace(SHARES, scores_as="softmax", background="last"),
        LETTERBOX,
    ),
}


@pytest.fixture(scope="module")
def fixed(yolo11n: Path) -> onnx.ModelProto:
    return reshape(read_onnx(yolo11n), HW, batch=1)


@pytest.fixture(scope="module")
def coco(data_root: Path) -> dict[str, Dataset]:
    splits = open_labelled(data_root / "coco" / "data.yaml", COCO_NAMES, "detection")
    assert splits.val is not None and splits.train is not None
    some = replace(splits.val, images=splits.val.images[:JUDGED])
    return {"validation": some, "training": splits.train}


@pytest.fixture(scope="module")
def reference(yolo11n: Path, coco: dict[str, Dataset]) -> float:
    """What the model reaches as it is."""
    return accuracy(config_of(yolo11n, describe(yolo11n)), coco["validation"])


def config_of(path: Path, description: ModelDescription, **changes: Any) -> PipelineConfig:
    config = PipelineConfig(
        task="detection",
        model=model_file(path),
        description=description,
        input_size=description.input_size,
        iou_threshold=description.iou_threshold,
        preprocessor="fused",
        nms="vectorized",
        score_threshold=0.001,
    )
    return replace(config, **changes)


def found_by(config: PipelineConfig, images: Dataset) -> list[DetectionResult]:
    with Pipeline(config) as pipeline:
        return [pipeline(read_image(image.path)) for image in images.images]


def accuracy(config: PipelineConfig, images: Dataset) -> float:
    return evaluate(images, DetectionTask.collect(found_by(config, images))).map50_95


# One of each kind of ending; the conventions of the others have unit tests as well.
QUICK = ("boxes and scores", "NMS inside, three outputs", "RT-DETR", "DETR")
RUNS = [
    pytest.param(
        name,
        runtime,
        marks=() if name in QUICK and runtime == "onnxruntime" else pytest.mark.slow,
    )
    for name in VARIANTS
    for runtime in ("onnxruntime", "openvino")
]


@pytest.mark.parametrize(("name", "runtime"), RUNS)
def test_the_reference_accuracy_is_reached(
    name: str,
    runtime: str,
    fixed: onnx.ModelProto,
    coco: dict[str, Dataset],
    reference: float,
    tmp_path: Path,
) -> None:
    variant = VARIANTS[name]
    path = tmp_path / "variant.onnx"
    path.write_bytes(variant.build(fixed).SerializeToString())
    found = describe(path, variant.overrides)
    assert (found.decode, found.outputs) == (variant.decode, variant.outputs)
    assert found.class_names == COCO_NAMES
    config = config_of(path, found, runtime=runtime)
    assert 0.2 < reference < 0.8
    assert accuracy(config, coco["validation"]) == pytest.approx(reference, abs=TOLERANCE)


@pytest.mark.parametrize(
    "runtime", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("threshold", [0.001, pytest.param(0.25, marks=pytest.mark.slow)])
def test_nms_in_the_graph_keeps_the_same_boxes(
    threshold: float, runtime: str, yolo11n: Path, coco: dict[str, Dataset]
) -> None:
    config = config_of(yolo11n, describe(yolo11n), runtime=runtime, score_threshold=threshold)
    outside = found_by(config, coco["validation"])
    inside = found_by(replace(config, nms="graph"), coco["validation"])
    # Boxes of equal scores may come in another order.
    assert DetectionTask.same(DetectionTask.collect(inside), DetectionTask.collect(outside))
    for expected, found in zip(outside, inside, strict=True):
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


@pytest.mark.slow
def test_wrong_conventions_are_corrected_by_labels(
    fixed: onnx.ModelProto, coco: dict[str, Dataset], tmp_path: Path
) -> None:
    """Nothing in shapes tells labels from 0 from labels from 1, nor stretched from letterboxed."""
    path = tmp_path / "variant.onnx"
    path.write_bytes(nms_style(fixed, joined=False, first_label=1).SerializeToString())
    assumed = describe(path)
    assert assumed.outputs is not None and assumed.outputs.first_label == 0
    wrong = replace(
        assumed,
        outputs=replace(assumed.outputs, box_format="yxyx"),
        preprocessing=replace(assumed.preprocessing, fit="stretch"),
    )
    images = coco["training"].images[:48]

    def score(description: ModelDescription) -> np.ndarray:
        with Pipeline(config_of(path, description, score_threshold=0.05)) as pipeline:
            results = [pipeline(read_image(image.path)) for image in images]
        return np.array(
            [DetectionTask.fit(*pair) for pair in zip(results, images, strict=True)], float
        )

    found = verify_preprocessing(wrong, score)
    assert found.description.outputs == replace(assumed.outputs, first_label=1)
    assert found.description.preprocessing == assumed.preprocessing
    assert {mistake.split(":")[0] for mistake in found.mistakes} == {
        "box format",
        "labels",
        "aspect",
    }


@pytest.mark.slow
def test_other_sizes_work_or_are_refused(
    fixed: onnx.ModelProto, yolo11n: Path, coco: dict[str, Dataset], tmp_path: Path
) -> None:
    whole = accuracy(config_of(yolo11n, describe(yolo11n), input_size=512), coco["validation"])
    for build in (ssd_style, nms_style):
        path = tmp_path / f"{build.__name__}.onnx"
        path.write_bytes(build(fixed).SerializeToString())
        smaller = config_of(path, describe(path), input_size=512)
        assert accuracy(smaller, coco["validation"]) == pytest.approx(whole, abs=TOLERANCE)
    reason = can_reshape(detr_style(fixed, HW), (512, 512))
    assert reason is not None and "which is the input size" in reason


class TestTorchvision:
    """SSDlite with random weights, whose logits are made as wide as those of a trained one."""

    @pytest.fixture(scope="class")
    def model(self) -> Any:
        torch = pytest.importorskip("torch")
        detection = pytest.importorskip("torchvision.models.detection")
        torch.manual_seed(0)
        model = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
        for layer in model.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None
        with torch.no_grad():
            noise = torch.rand(4, 3, 320, 320) * 2 - 1
            model.head(list(model.backbone(noise).values()))  # statistics of the normalizations
            model.eval()
            logits = model.head(list(model.backbone(noise).values()))["cls_logits"]
            for branch in model.head.classification_head.module_list:
                branch[-1].weight *= 2.5 / logits.std()
        model.score_thresh, model.nms_thresh = 0.05, 0.45
        model.detections_per_img, model.topk_candidates = 300, 4000
        return model

    @pytest.fixture(scope="class")
    def dense(self, model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
        import torch
        from torchvision.models.detection.image_list import ImageList

        class Dense(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, images: Any) -> Any:
                images = images * 2 - 1
                features = list(self.model.backbone(images).values())
                found = self.model.head(features)
                anchors = self.model.anchor_generator(ImageList(images, [(320, 320)]), features)
                boxes = self.model.box_coder.decode_single(found["bbox_regression"][0], anchors[0])
                return boxes[None], torch.softmax(found["cls_logits"], -1)

        return self.exported(Dense(), tmp_path_factory.mktemp("dense"), ["boxes", "scores"])

    @pytest.fixture(scope="class")
    def finished(self, model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
        import torch

        class Whole(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, images: Any) -> Any:
                found = self.model([images[0]])[0]
                return found["boxes"], found["scores"], found["labels"]

        folder = tmp_path_factory.mktemp("whole")
        return self.exported(Whole(), folder, ["boxes", "scores", "labels"])

    @staticmethod
    def exported(module: Any, folder: Path, names: list[str]) -> Path:
        import warnings

        import torch

        path = folder / "model.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own, of which there are many
            torch.onnx.export(
                module.eval(),
                (torch.rand(1, 3, 320, 320),),
                str(path),
                input_names=["images"],
                output_names=names,
                dynamo=False,
                opset_version=17,
            )
        return path

    @pytest.mark.parametrize("nms", ["loop", "vectorized", "top_k", "graph"])
    def test_its_own_postprocessing_finds_the_same(self, nms: str, model: Any, dense: Path) -> None:
        import torch

        image = np.random.default_rng(0).integers(0, 255, (320, 320, 3), np.uint8)
        tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        with torch.no_grad():
            expected = {key: value.numpy() for key, value in model.eval()([tensor])[0].items()}
        described = describe(dense)
        assert described.decode == "ssd" and described.outputs is not None
        assert (described.outputs.background, len(described.class_names)) == ("first", 90)
        with Pipeline(config_of(dense, described, nms=nms, score_threshold=0.05)) as pipeline:
            found = pipeline(image)
        assert len(found) == len(expected["scores"]) == 300
        np.testing.assert_allclose(found.scores, expected["scores"], atol=1e-4)
        # Equals in score may change places.
        same = found.class_ids + 1 == expected["labels"]
        close = np.abs(found.boxes - expected["boxes"]).max(axis=1) < 0.5
        assert (same & close).mean() > 0.97

    @pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
    def test_the_whole_model_is_read(self, runtime: str, model: Any, finished: Path) -> None:
        import torch

        image = np.random.default_rng(1).integers(0, 255, (320, 320, 3), np.uint8)
        tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 255
        with torch.no_grad():
            expected = {key: value.numpy() for key, value in model.eval()([tensor])[0].items()}
        described = describe(finished)
        assert described.decode == "nms_inside"
        assert described.class_names[1] == "person"  # labels are COCO's ids, 0 is none
        config = config_of(finished, described, runtime=runtime, score_threshold=0.05)
        with Pipeline(config) as pipeline:
            found = pipeline(image)
        np.testing.assert_allclose(found.scores, expected["scores"], atol=1e-4)
        assert (found.class_ids == expected["labels"]).mean() > 0.97
