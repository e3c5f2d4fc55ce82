"""Ranges from single images, and when LiteRT models are quantized."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from saccade.optimize.change import PlanContext
from saccade.optimize.changes.litert_int8 import LADDER, QuantizeLiteRt
from saccade.optimize.litert_quantization import Ranges, combined
from saccade.testing.optimization_conformance import example_contexts


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
    (change,) = QuantizeLiteRt.variants(context)
    labels = []
    step: QuantizeLiteRt | None = change
    while step is not None:
        labels.append(step.label)
        step = step.next_rung((), context)
    assert len(set(labels)) == len(LADDER)
