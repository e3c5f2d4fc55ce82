"""Where int8 pays: times of layers in two files, and which layers stay float for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from saccade.errors import RuntimeFailure
from saccade.optimize.change import PlanContext
from saccade.optimize.quantization import make
from saccade.optimize.quantization.kept_float import kept_float
from saccade.optimize.quantization.layer_times import LayerTime, layer_operators, measure
from saccade.optimize.quantization.layers import layers
from saccade.optimize.quantization.make import quantized_file, quantized_model, quantized_path
from saccade.optimize.quantization.qdq import OnnxRuntimeQdq
from saccade.optimize.quantization.recipe import Recipe
from saccade.optimize.quantization.sensitivity import Sensitivity
from saccade.pipeline.config import PipelineConfig
from saccade.runtimes.contract import OperatorTime
from saccade.testing.optimization_conformance import example_contexts
from saccade.testing.tiny_depthwise import SIZE, textures, tiny_depthwise
from saccade.testing.tiny_models import tiny_config

INPUTS = [np.random.default_rng(i).random((1, 3, 64, 64), np.float32) for i in range(4)]


def times(**saved: float) -> list[LayerTime]:
    return [LayerTime(node, 10.0, 10.0 - value, rounded=True) for node, value in saved.items()]


def ranked(**errors: float) -> list[Sensitivity]:
    found = [Sensitivity(node, "Conv", error) for node, error in errors.items()]
    return sorted(found, key=lambda item: -item.error)


def test_int8_pays_where_it_is_int8_and_faster() -> None:
    assert LayerTime("a", 2.0, 1.0, rounded=True).pays
    assert not LayerTime("a", 2.0, 2.5, rounded=True).pays
    # Faster, but not for the rounding: the runtime computed it in float all the same.
    assert not LayerTime("a", 2.0, 1.0, rounded=False).pays


def test_layers_that_do_not_gain_stay_float_whatever_else_does() -> None:
    gains = times(a=1.0, b=-0.1, c=1.0)
    errors = ranked(a=1.0, b=8.0, c=0.01)
    assert kept_float("none", errors, gains) == ["b"]
    # They take nothing of what the others may be: "a" holds nearly all that is left.
    assert kept_float("skip", errors, gains) == ["b", "a"]
    assert kept_float("skip", errors) == ["b"]
    assert kept_float("none", errors) == []


def test_mixed_precision_takes_first_what_costs_least_time_for_its_error() -> None:
    errors = ranked(costly=5.0, cheap=4.0, exact=0.001, other=0.001)
    assert kept_float("mixed", errors) == ["costly", "cheap"]
    gains = times(costly=4.0, cheap=1.0, exact=1.0, other=1.0)
    assert kept_float("mixed", errors, gains) == ["cheap", "costly"]
    # Of four layers two may be float; what is told by noise alone does not come before them.
    gains = times(costly=4.0, cheap=1.0, exact=0.0001, other=0.0001)
    assert kept_float("mixed", errors, gains) == ["cheap", "costly"]


def test_operators_are_found_under_the_names_that_runtimes_give_them() -> None:
    model = tiny_depthwise()
    found = layer_operators(
        model,
        [
            OperatorTime("expand1/WithoutBiases", "Conv", 1.0, "int8"),
            OperatorTime("expand1/WithoutBiases_f32_u8_depth1", "Reorder", 9.0),
            OperatorTime("depth1_r_nchwc", "Conv", 2.0),
            OperatorTime("project1_token_7", "QLinearConv", 3.0, "int8"),
        ],
    )
    assert {node: op.wall_ms for node, op in found.items()} == {
        "expand1": 1.0,
        "depth1": 2.0,
        "project1": 3.0,
    }


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    path = tmp_path / "float.onnx"
    onnx.save(tiny_depthwise(), str(path))
    made = tiny_config(tmp_path)
    described = made.description
    named = replace(described, input=replace(described.input, name="images"))
    return replace(
        made, model=quantized_model(path), description=named, input_size=SIZE, runtime="onnxruntime"
    )


def test_every_layer_is_timed_in_both_files(config: PipelineConfig, tmp_path: Path) -> None:
    model, samples = tiny_depthwise(), textures(4)
    whole = tmp_path / "whole.onnx"
    OnnxRuntimeQdq.quantize(model, samples, Recipe(), ["depth1"], whole)
    found = {item.node: item for item in measure(model, config, quantized_model(whole), samples)}
    assert set(found) == {layer.node for layer in layers(model)}
    assert all(item.float_ms > 0 and item.int8_ms > 0 for item in found.values())
    # Left out of int8, so that no clock can make it pay.
    assert not found["depth1"].rounded
    assert not found["depth1"].pays
    assert found["expand1"].rounded


# The recipe


@pytest.fixture
def context(tmp_path: Path) -> PlanContext:
    return next(example_contexts(tmp_path))


def quantized(
    context: PlanContext, gains: list[LayerTime], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The paying recipe, carried out here on inputs that are ready, with times as given."""
    monkeypatch.setattr(make, "calibration_tensors", lambda *_: INPUTS)
    monkeypatch.setattr(make, "check_calibration", lambda *_: [])
    monkeypatch.setattr(make, "measure_times", lambda *_: gains)
    monkeypatch.setattr(
        make, "run_job", lambda job, target: make.QuantizationWorker().run(job, str(target))
    )
    return Path(quantized_file(context, "onnxruntime", Recipe(paying=True)).path)


def test_the_recipe_leaves_float_what_does_not_gain(
    context: PlanContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [layer.node for layer in layers(onnx.load(context.config.model.path))]
    gains = [LayerTime(node, 2.0, 3.0 if node == nodes[0] else 1.0, True) for node in nodes]
    made = quantized(context, gains, monkeypatch)
    assert make.details_of(made)["float_layers"] == [nodes[0]]
    assert [item["node"] for item in make.details_of(made)["layer_times"]] == nodes
    assert quantized_path(context, "onnxruntime", Recipe()).exists()
    # Recipes above this rung share what was measured.
    monkeypatch.setattr(make, "measure_times", lambda *_: pytest.fail("measured again"))
    recipe = Recipe(paying=True, bias_correction=True)
    again = Path(quantized_file(context, "onnxruntime", recipe).path)
    assert make.details_of(again)["float_layers"] == [nodes[0]]
    assert len(list(context.folder.glob("layer-times-*.json"))) == 1


def test_where_every_layer_gains_the_recipe_is_refused(
    context: PlanContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [layer.node for layer in layers(onnx.load(context.config.model.path))]
    gains = [LayerTime(node, 2.0, 1.0, True) for node in nodes]
    with pytest.raises(RuntimeFailure, match=f"each of {len(nodes)} layers faster"):
        quantized(context, gains, monkeypatch)
