"""Ranges from single images, and when LiteRT models are quantized."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from saccade.models.files import model_file
from saccade.optimize.change import PlanContext
from saccade.optimize.changes.litert_int8 import LADDER, QuantizeLiteRt
from saccade.optimize.litert_bias import _layers, corrected, rounded
from saccade.optimize.litert_quantization import Ranges, combined
from saccade.pipeline.config import RuntimeOptions
from saccade.runtimes.contract import SessionRequest
from saccade.runtimes.litert import LiteRt
from saccade.testing.optimization_conformance import example_contexts
from saccade.testing.tiny_models import reference, write_tiny


@pytest.mark.parametrize(
    ("ranges", "low", "high"), [("mean", -2.0, 5.0), ("widest", -3.0, 13.0), ("inner", -2.8, 10.6)]
)
def test_ranges_of_single_images_are_combined(ranges: Ranges, low: float, high: float) -> None:
    ends = [(-1.0, 1.0), (-2.0, 1.0), (-3.0, 13.0)]
    each = [
        {"relu": {"min": np.array([[a]]), "max": np.array([[b]]), "num_samples": 1}, "weight": {}}
        for a, b in ends
    ]
    found = combined(each, ranges)
    assert found["weight"] == {}
    assert found["relu"]["min"].item() == pytest.approx(low)
    assert found["relu"]["max"].item() == pytest.approx(high)
    assert found["relu"]["min"].shape == (1, 1)


@pytest.fixture
def context(tmp_path: Path) -> PlanContext:
    pytest.importorskip("ai_edge_quantizer")
    for context in example_contexts(tmp_path):
        if context.config.runtime == "litert":
            return replace(context, video=True)
    raise AssertionError("no context runs in LiteRT")


def test_it_applies_to_a_float_model_in_litert(context: PlanContext) -> None:
    assert QuantizeLiteRt().applies(context) is None


def test_a_quantized_model_is_left_alone(context: PlanContext) -> None:
    model = replace(context.config.model, stored="int8")
    done = replace(context, config=replace(context.config, model=model))
    assert QuantizeLiteRt().applies(done) == "the model is quantized already"


def test_without_images_there_is_nothing_to_calibrate_on(context: PlanContext) -> None:
    assert "no images" in str(QuantizeLiteRt().applies(replace(context, video=False)))


def test_the_ladder_tries_every_setting_once(context: PlanContext) -> None:
    labels = []
    for change in QuantizeLiteRt.variants(context):
        step: QuantizeLiteRt | None = change
        while step is not None:
            labels.append(step.label)
            step = step.next_rung((), context)
    assert len(set(labels)) == len(labels) == 2 * len(LADDER)


def test_input_and_outputs_keep_their_widest_range() -> None:
    each = [{"out": {"min": np.array([0.0]), "max": np.array([top])}} for top in (1.0, 9.0)]
    assert combined(each, "mean")["out"]["max"].item() == 5.0
    assert combined(each, "mean", ends={"out"})["out"]["max"].item() == 9.0


def test_biases_take_back_what_rounding_shifts(tmp_path: Path) -> None:
    """Coarse weights on a constant image shift every channel; the correction removes that."""
    pytest.importorskip("ai_edge_litert")
    path = write_tiny("tflite", tmp_path, (64, 64))
    model = path.read_bytes()
    image = np.full((1, 3, 64, 64), 0.7, np.float32)
    images = [np.ascontiguousarray(image.transpose(0, 2, 3, 1))]
    plain = bytearray(model)
    for layer in _layers(plain):
        layer.weight[...] = rounded(layer.weight, layer.axis)
    shifts = []
    for index, content in enumerate((bytes(plain), corrected(model, images))):
        target = tmp_path / f"{index}.tflite"
        target.write_bytes(content)
        request = SessionRequest(model_file(target), (64, 64), RuntimeOptions(), "images")
        shifts.append(np.abs(LiteRt.open(request).infer(image)[0] - reference(image)).max())
    assert shifts[1] < shifts[0] / 10


def test_weights_lie_on_the_steps_of_their_channel() -> None:
    weight = np.array([[1.0, 0.5, 0.001], [0.0, 0.0, 0.0]], np.float32)
    found = rounded(weight, axis=0)
    assert found == pytest.approx(np.array([[1.0, 64 / 127, 0.0], [0.0, 0.0, 0.0]]))
