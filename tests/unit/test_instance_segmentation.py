"""Instance segmentation: described, decoded, drawn, collected and judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from detection_scenes import scene
from onnx import helper

from saccade.data.contract import Dataset
from saccade.data.outlines import Outline, from_polygons
from saccade.errors import DataError, ModelError
from saccade.measurement import STAGES
from saccade.models.onnx_model import describe
from saccade.optimize.changes.cropped_masks import CroppedMasks
from saccade.pipeline.geometry import stretched
from saccade.pipeline.pipeline import Pipeline
from saccade.profile.profiler import Profiler
from saccade.tasks.detections import Detections
from saccade.tasks.instance_segmentation import InstanceSegmentationTask
from saccade.testing.optimization_conformance import example_contexts
from saccade.testing.tiny_instance_segmenter import (
    tiny_instance_segmenter,
    tiny_instance_segmenter_config,
)
from saccade.validate.bootstrap import replicates, resample_weights
from saccade.validate.detection_metrics import evaluate
from saccade.validate.instance_segmentation import InstanceSegmentationJudge

Task, Judge = InstanceSegmentationTask, InstanceSegmentationJudge
SIDE = 200


def ellipse(box: np.ndarray, squeeze: float = 1.0) -> Outline:
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    points = centre + np.stack([np.cos(turn), np.sin(turn) * squeeze], 1) * half
    return from_polygons([points], SIDE, SIDE)


def outlined(seed: int, squeeze: float = 1.0) -> tuple[Dataset, Detections]:
    """A scene whose objects are ellipses, and what is found of them, flatter by ``squeeze``."""
    dataset, found = scene(seed)
    images = tuple(
        replace(image, outlines=tuple(ellipse(box) for box in image.boxes))
        for image in dataset.images
    )
    outlines = tuple(tuple(ellipse(box, squeeze) for box in boxes) for boxes in found.boxes)
    return replace(dataset, images=images), replace(found, outlines=outlines)


def test_a_segmenter_is_described(tmp_path: Path) -> None:
    onnx.save(tiny_instance_segmenter(), tmp_path / "seg.onnx")
    found = Task.describe(tmp_path / "seg.onnx", {"class_names": ["cat", "dog"], "stride": 8})
    assert (found.decode, found.class_names) == ("yolov8_seg", ("cat", "dog"))
    assert not found.transposed
    assert any("3 prototypes" in sentence for sentence in found.evidence)


def test_a_detector_is_refused_and_a_segmenter_is_no_detector(tmp_path: Path) -> None:
    model = tiny_instance_segmenter()
    entry = model.metadata_props.add()
    entry.key, entry.value = "task", "segment"
    onnx.save(model, tmp_path / "seg.onnx")
    with pytest.raises(ModelError, match="task: instance_segmentation"):
        describe(tmp_path / "seg.onnx")
    del model.graph.output[1]
    onnx.save(model, tmp_path / "bare.onnx")
    with pytest.raises(ModelError, match="not a model for instance segmentation"):
        Task.describe(tmp_path / "bare.onnx")


def test_rows_that_lie_the_other_way_are_turned(tmp_path: Path) -> None:
    config = tiny_instance_segmenter_config(tmp_path)
    model = onnx.load(config.model.path)
    model.graph.node[2].output[0] = "rows"
    model.graph.node.append(helper.make_node("Transpose", ["rows"], ["output0"], perm=[0, 2, 1]))
    shape = model.graph.output[0].type.tensor_type.shape.dim
    shape[1].CopyFrom(onnx.TensorShapeProto.Dimension(dim_param="cells"))
    shape[2].CopyFrom(onnx.TensorShapeProto.Dimension(dim_value=9))
    onnx.save(model, tmp_path / "turned.onnx")
    found = Task.describe(tmp_path / "turned.onnx", {"class_names": ["cat", "dog"], "stride": 8})
    assert found.transposed


@pytest.mark.parametrize("nms", ["loop", "vectorized"])
def test_both_ways_of_decoding_give_the_same_results(tmp_path: Path, nms: str) -> None:
    config = replace(tiny_instance_segmenter_config(tmp_path), nms=nms, score_threshold=0.01)
    pixels = np.random.default_rng(0).integers(0, 255, (90, 130, 3), np.uint8)
    results = []
    for masks in ("whole", "cropped"):
        with Pipeline(replace(config, masks=masks)) as pipeline:
            results.append(pipeline(pixels))
    first, second = results
    assert len(first) > 1 and first.masks is not None and second.masks is not None
    assert len(first.masks) == len(first)
    assert (first.masks.areas > 0).all()
    assert np.array_equal(first.boxes, second.boxes)
    assert Task.same(Task.collect([first]), Task.collect([second]))


def test_an_object_whose_mask_is_empty_is_dropped(tmp_path: Path) -> None:
    config = replace(tiny_instance_segmenter_config(tmp_path), masks="cropped")
    rows = np.zeros((1, 9, 2), np.float32)
    rows[0, :6, 0] = (16, 16, 20, 20, 0.9, 0)
    rows[0, :6, 1] = (48, 48, 20, 20, 0.8, 0)
    rows[0, 6] = (1, -1)
    prototypes = np.ones((1, 3, 16, 16), np.float32)
    post = Task.postprocessor(config)
    found = post([rows, prototypes], stretched((64, 64), (64, 64)))
    assert found.scores.tolist() == pytest.approx([0.9])
    assert found.masks.areas.tolist() == [400]
    # The order of the outputs does not matter.
    again = post([prototypes, rows], stretched((64, 64), (64, 64)))
    assert np.array_equal(again.boxes, found.boxes)
    assert set(post.parts) == {"masks"}


def test_what_overflowed_is_dropped(tmp_path: Path) -> None:
    config = tiny_instance_segmenter_config(tmp_path)
    rows = np.full((1, 9, 4), np.nan, np.float32)
    rows[0, :6, 0] = (16, 16, 20, 20, 0.9, 0)
    found = Task.postprocessor(config)(
        [rows, np.ones((1, 3, 16, 16), np.float32)], stretched((64, 64), (64, 64))
    )
    assert len(found) == 0


def test_unknown_decodes_are_refused(tmp_path: Path) -> None:
    config = tiny_instance_segmenter_config(tmp_path)
    other = replace(config, description=replace(config.description, decode="yolov8"))
    with pytest.raises(ModelError, match="Unknown decode"):
        Task.postprocessor(other)


def test_drawing_tints_objects_and_leaves_the_image_alone(tmp_path: Path) -> None:
    config = replace(tiny_instance_segmenter_config(tmp_path), score_threshold=0.01)
    pixels = np.random.default_rng(0).integers(0, 255, (90, 130, 3), np.uint8)
    before = pixels.copy()
    with Pipeline(config) as pipeline:
        result = pipeline(pixels)
        drawn = pipeline.draw(pixels, result)
    assert np.array_equal(pixels, before)
    covered = result.masks.dense().any(axis=0)
    assert (drawn != pixels).any(axis=2)[covered].mean() > 0.9


def test_masks_convert_to_supervision(tmp_path: Path) -> None:
    pytest.importorskip("supervision")
    config = replace(tiny_instance_segmenter_config(tmp_path), score_threshold=0.01)
    with Pipeline(config) as pipeline:
        result = pipeline(np.zeros((64, 64, 3), np.uint8))
    assert result.to_supervision().mask.shape == (len(result), 64, 64)


@pytest.mark.parametrize("seed", range(5))
def test_masks_are_judged_by_their_own_overlap(seed: int) -> None:
    dataset, same = outlined(seed)
    _, flat = outlined(seed, squeeze=0.4)
    right, wrong = (evaluate(dataset, found, "masks") for found in (same, flat))
    assert evaluate(dataset, flat).map50_95 == evaluate(dataset, same).map50_95
    assert wrong.map50 < 0.2 * right.map50


def test_mask_replicates_are_what_cocoeval_gives_on_repeated_images() -> None:
    dataset, found = outlined(3, squeeze=0.8)
    weights = resample_weights(len(dataset), 6, seed=1)
    drawn = replicates(evaluate(dataset, found, "masks"), weights)
    for row, counts in enumerate(weights):
        order = np.repeat(np.arange(len(dataset)), counts)
        assert found.outlines is not None
        literal = evaluate(
            replace(dataset, images=tuple(dataset.images[i] for i in order)),
            Detections.of(
                ((found.boxes[i], found.scores[i], found.class_ids[i]) for i in order),
                [found.outlines[i] for i in order],
            ),
            "masks",
        )
        assert drawn.map50_95.drawn[row] == pytest.approx(literal.map50_95, abs=1e-12)


def test_agreement_with_itself_is_one_and_sees_other_masks() -> None:
    dataset, found = outlined(2)
    weights = resample_weights(len(dataset), 50)
    assert Judge.agreement(dataset, found, found, weights).estimate == 0.0
    _, flat = outlined(2, squeeze=0.4)
    assert Judge.agreement(dataset, found, flat, weights).estimate > 0.5


def test_the_judge_gives_every_metric_of_the_task() -> None:
    dataset, found = outlined(1, squeeze=0.7)
    scored = Judge.scored(dataset, found, resample_weights(len(dataset), 20))
    assert tuple(scored.metrics) == Task.metrics
    assert scored.values["mask_map50_95"] < scored.values["map50_95"]
    objects = sum(int((~image.crowd).sum()) for image in dataset.images)
    assert sum(found.objects for found in scored.by_size.values()) == objects
    # Sizes are judged by masks too, which are all too narrow here.
    perfect = Judge.scored(*outlined(1), resample_weights(len(dataset), 20)).by_size
    for size, judged in scored.by_size.items():
        assert judged.value < perfect[size].value


def test_missing_outlines_are_named() -> None:
    dataset, found = outlined(1)
    with pytest.raises(DataError, match="without outlines"):
        evaluate(scene(1)[0], found, "masks")
    with pytest.raises(DataError, match="no masks"):
        evaluate(dataset, replace(found, outlines=None), "masks")
    with pytest.raises(ValueError, match="one outline"):
        replace(found, outlines=())


def test_only_sure_detections_keep_their_outlines() -> None:
    _, found = outlined(1)
    sure = found.above(0.5)
    assert sure.outlines is not None
    assert [len(o) for o in sure.outlines] == [len(s) for s in sure.scores]


def test_a_profile_tells_masks_from_boxes(tmp_path: Path) -> None:
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 255, (90, 130, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"{index}.png"), pixels)
    config = replace(tiny_instance_segmenter_config(tmp_path), score_threshold=0.01)
    profile = Profiler(str(tmp_path), frames=4).profile(config, operators=False)
    masks_ms = profile.extra["masks_ms"]
    assert 0 < masks_ms <= profile.stage("postprocess").wall_ms
    assert [stage.name for stage in profile.stages] == list(STAGES)
    assert "masks" in {span.name for span in profile.spans}
    overlapped = Profiler(str(tmp_path), frames=4).profile(
        replace(config, execution="overlapped"), operators=False
    )
    assert "masks" in {span.name for span in overlapped.spans}


def test_the_change_predicts_by_the_measured_share_of_masks(tmp_path: Path) -> None:
    context = next(example_contexts(tmp_path))
    change = CroppedMasks()
    assert "no masks" in str(change.applies(context))
    context = replace(context, config=tiny_instance_segmenter_config(tmp_path))
    stage = context.profile.stage("postprocess").wall_ms
    few, many = (
        replace(context, profile=replace(context.profile, extra={"masks_ms": share * stage}))
        for share in (0.01, 0.99)
    )
    assert change.predict(few).bound < change.predict(many).bound
    assert change.apply(context).masks == "cropped"


def test_a_row_that_video_cut_off_costs_no_accuracy() -> None:
    dataset, found = outlined(3)
    assert found.outlines is not None
    cut = tuple(tuple(o.on(SIDE - 1, SIDE - 1) for o in image) for image in found.outlines)
    whole = evaluate(dataset, found, "masks")
    assert whole.map50 > 0.2
    assert evaluate(dataset, replace(found, outlines=cut), "masks").map50 == whole.map50
    small = tuple(tuple(o.on(SIDE // 2, SIDE) for o in image) for image in found.outlines)
    with pytest.raises(DataError, match="of the same image"):
        evaluate(dataset, replace(found, outlines=small), "masks")
