"""Smaller inputs and other aspects: geometry, the change, and accuracy by object size."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detection_scenes import scene
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pycocotools.cocoeval import COCOeval

from saccade.models.description import Preprocessing
from saccade.models.onnx_file import read_onnx
from saccade.models.reshape import can_reshape, reshape
from saccade.optimize.change import PlanContext
from saccade.optimize.changes.resolution import LowerResolution
from saccade.optimize.changes.runtime import SwitchRuntime
from saccade.optimize.real_inputs import conversion_request
from saccade.pipeline.geometry import letterbox, stretched
from saccade.pipeline.pipeline import Pipeline, input_hw
from saccade.report.by_size import size_rows
from saccade.runtimes.contract import Availability
from saccade.testing.optimization_conformance import example_contexts
from saccade.testing.tiny_models import tiny_config
from saccade.testing.tiny_segmenter import tiny_segmenter_config
from saccade.testing.tiny_torch import pictures
from saccade.validate import detection_metrics as metrics
from saccade.validate.bootstrap import resample_weights
from saccade.validate.contract import compared_by_size
from saccade.validate.detection import DetectionJudge
from saccade.validate.referee import other_pixels

sides = st.integers(16, 3000)


@given(
    hw=st.tuples(sides, sides),
    size=st.integers(2, 20).map(lambda n: 32 * n),
    squeeze=st.floats(0.4, 1.0),
    shape=st.sampled_from(["square", "rect"]),
    anchor=st.sampled_from(["center", "top_left"]),
)
def test_a_squeezed_frame_lies_inside_and_its_boxes_come_back(
    hw: tuple[int, int], size: int, squeeze: float, shape: str, anchor: Any
) -> None:
    box = letterbox(hw, size, 32, shape, anchor, squeeze=squeeze)
    assert not any(side % 32 for side in box.input_hw)
    assert box.top >= 0 and box.top + box.scaled_hw[0] <= box.input_hw[0]
    assert box.left >= 0 and box.left + box.scaled_hw[1] <= box.input_hw[1]
    plain = letterbox(hw, size, 32, shape, anchor)
    assert np.prod(box.input_hw) <= np.prod(plain.input_hw)
    whole = np.array([[0, 0, box.scaled_hw[1], box.scaled_hw[0]]], np.float32)
    there = whole + np.array([box.left, box.top] * 2, np.float32)
    assert_allclose(box.to_frame(there), [[0, 0, hw[1], hw[0]]], atol=2 * max(hw) / size)


def test_only_the_longer_side_is_squeezed() -> None:
    wide = letterbox((1080, 1920), 640, 32, "rect", "center", squeeze=0.8)
    assert wide.scaled_hw == (360, 512) and wide.input_hw == (384, 512)
    tall = letterbox((1920, 1080), 640, 32, "rect", "center", squeeze=0.8)
    assert tall.scaled_hw == (512, 360)
    boxes = np.array([[256, 12 + 180, 512, 12 + 360]], np.float32)
    assert_allclose(wide.to_frame(boxes), [[960, 540, 1920, 1080]], atol=0.01)


def test_boxes_of_a_stretched_frame_come_back_on_both_axes() -> None:
    box = stretched((100, 300), (64, 64))
    assert_allclose(box.to_frame(np.array([[0, 0, 64, 64]], np.float32)), [[0, 0, 300, 100]])


def contexts(folder: Path) -> list[PlanContext]:
    return list(example_contexts(folder))


def test_sizes_and_aspects_are_offered_in_multiples_of_the_stride(tmp_path: Path) -> None:
    context = contexts(tmp_path)[0]
    offered = list(LowerResolution.variants(context))
    assert [(c.input_size, c.squeeze) for c in offered] == [(64, 0.8), (48, 1), (48, 0.8), (40, 1)]
    assert offered[0].label == "resolution: 64, longer side at 80%"
    assert all(change.applies(context) is None for change in offered)
    gains = [change.predict(context).gain for change in offered]
    assert gains == sorted(gains)
    small = replace(context, config=offered[3].apply(context))
    assert [c.label for c in offered if c.applies(small) is None] == []


def test_what_is_converted_for_one_size_is_converted_for_the_one_in_use(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, (64, 64))
    config = replace(config, model=replace(config.model, program="net.pt2"))
    ncnn = Availability(True, formats=("ncnn",), dynamic=False)
    context = replace(
        contexts(tmp_path)[0],
        config=config,
        calibration=pictures(tmp_path / "images", 4),
        runtimes={"onnxruntime": Availability(True), "ncnn": ncnn},
    )
    switch = SwitchRuntime("ncnn")
    assert switch._start(context) == config.model
    for change, hw in (LowerResolution(48), (48, 48)), (LowerResolution(48, 0.8), (48, 40)):
        smaller = replace(context, config=change.apply(context))
        request = conversion_request(smaller, "ncnn")
        assert request.hw == request.inputs.shape[2:] == hw
        assert conversion_request(smaller, "onnxruntime").inputs.shape[2:] == (64, 64)
        # The program is of one size, and the ONNX made from it can be given another.
        assert switch._start(smaller) == replace(config.model, program=None)
    made = replace(config, model=replace(config.model, format="ncnn"))
    assert "fixed" in (LowerResolution(48).applies(replace(context, config=made)) or "")


def test_a_crop_keeps_its_aspect(tmp_path: Path) -> None:
    context = contexts(tmp_path)[0]
    cropped = Preprocessing(fit="center_crop")
    described = replace(context.config.description, preprocessing=cropped)
    classifier = replace(
        context, config=replace(context.config, task="classification", description=described)
    )
    reasons = {c.label: c.applies(classifier) for c in LowerResolution.variants(classifier)}
    assert "crop" in (reasons["resolution: 64, longer side at 80%"] or "")
    assert reasons["resolution: 48"] is None


def test_a_segmenter_runs_at_another_size_and_aspect(tmp_path: Path) -> None:
    config = tiny_segmenter_config(tmp_path)
    context = replace(contexts(tmp_path)[0], config=config)
    image = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)
    for change in LowerResolution.variants(context):
        assert change.applies(context) is None
        smaller = change.apply(context)
        assert np.prod(input_hw(smaller)) < np.prod(input_hw(config))
        with Pipeline(smaller) as pipeline:
            assert pipeline(image).mask.shape == (50, 70)
    offered = [c.label for c in LowerResolution.variants(context)]
    assert offered == ["resolution: 96, longer side at 80%", "resolution: 64"]
    assert input_hw(LowerResolution(96, 0.8).apply(context)) == (64, 64)


def test_sides_that_are_no_multiple_of_32_tell_which_multiples_will_do(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, (72, 104))
    model = read_onnx(config.model.path)
    assert can_reshape(model, (56, 104)) is None
    assert "stride 8" in (can_reshape(model, (60, 104)) or "")
    assert reshape(model, (56, 80)).graph.input[0].type.tensor_type.shape.dim[2].dim_value == 56


@given(seed=st.integers(0, 200))
@settings(max_examples=10, deadline=None)
def test_accuracy_by_size_is_cocoevals(seed: int) -> None:
    dataset, detections = scene(seed, images=6)
    found = metrics.evaluate_by_size(dataset, detections)
    classes = metrics._classes_with_objects(dataset)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = metrics._index(dataset, metrics._ground_truth(dataset.images, classes), classes)
        given_ = metrics._index(dataset, metrics._results(dataset, detections, classes), classes)
        reference = COCOeval(truth, given_, "bbox")  # with its own areas and limits
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    for size, index in (("small", 3), ("medium", 4), ("large", 5)):
        expected = reference.stats[index]
        assert (size in found) == (expected > -1)
        if size in found:
            assert found[size][0] == pytest.approx(expected, abs=1e-12)
    objects = sum(int((~image.crowd).sum()) for image in dataset.images)
    assert sum(count for _, count in found.values()) <= objects


def test_the_judge_compares_sizes_and_the_report_shows_them() -> None:
    dataset, detections = scene(3)
    weights = resample_weights(len(dataset), resamples=20)
    before = DetectionJudge.scored(dataset, detections, weights)
    after = DetectionJudge.scored(dataset, detections.above(0.6), weights)
    table = compared_by_size(before, after)
    assert table and all(row["candidate"] <= row["baseline"] for row in table.values())
    trial = {"trial": 4, "change": "resolution: 512", "by_size": table}
    rows = size_rows({"best": {"by_size": table}, "trials": [trial, {"trial": 5}]})
    assert len(rows) == 2 * len(table)
    assert rows[0]["system"] == "Best (report images)"
    assert rows[-1]["system"] == "Trial 4: resolution: 512"
    assert size_rows({}) == []


def test_only_systems_that_see_other_pixels_are_compared_by_size(tmp_path: Path) -> None:
    base = tiny_config(tmp_path)
    assert other_pixels(base, replace(base, squeeze=0.8))
    assert other_pixels(base, replace(base, input_size=48))
    assert not other_pixels(base, replace(base, runtime="openvino", nms="vectorized"))
