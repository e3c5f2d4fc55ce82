"""How many steps weights and activations have: for the CPU, and for what activations look like."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from saccade.optimize.changes.int8 import QuantizeInt8
from saccade.optimize.quantization.activations import Ranges
from saccade.optimize.quantization.contract import Scheme
from saccade.optimize.quantization.ladder import FIRST, Attempt, Situation, climb
from saccade.optimize.quantization.layers import named
from saccade.optimize.quantization.nncf_ir import NncfOpenVino
from saccade.optimize.quantization.overflow import products_overflow
from saccade.optimize.quantization.qdq import OnnxRuntimeQdq
from saccade.optimize.quantization.recipe import Recipe
from saccade.optimize.quantization.rounding import rounded_weights
from saccade.optimize.quantization.sensitivity import _ends
from saccade.runtimes.openvino_core import openvino_core
from saccade.testing.optimization_conformance import example_contexts
from saccade.testing.tiny_depthwise import textures, tiny_depthwise

SAMPLES = textures(6)
# Two products of such weights with 8-bit activations: 2 * 64 * 255 < 2^15.
FITS = 64


def on_a_cpu_with(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    monkeypatch.setattr("saccade.environment.detect", lambda: SimpleNamespace(isa_flags=flags))


@pytest.mark.parametrize(
    ("flags", "overflow"),
    [
        (("avx2",), True),
        (("avx2", "avx512f"), True),
        (("avx2", "avx_vnni"), False),
        (("avx2", "avx512f", "avx512_vnni"), False),
        (("neon", "asimd"), False),
        ((), False),
    ],
)
def test_products_overflow_on_x86_without_vnni(
    flags: tuple[str, ...], overflow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_cpu_with(monkeypatch, *flags)
    assert products_overflow() == overflow


def test_the_first_setting_is_for_this_cpu_and_every_rung_but_training_keeps_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = next(example_contexts(tmp_path))
    on_a_cpu_with(monkeypatch, "avx2")
    assert all(change.recipe.halved for change in QuantizeInt8.variants(context))
    assert all("7-bit weights" in change.label for change in QuantizeInt8.variants(context))
    on_a_cpu_with(monkeypatch, "avx2", "avx_vnni")
    assert not any(change.recipe.halved for change in QuantizeInt8.variants(context))
    situation = Situation(("min_max", "percentile"), True, 500, None)
    attempts = [Attempt(Recipe(halved=True), FIRST, 0.5)]
    while (step := next(climb(attempts, situation), None)) is not None:
        attempts.append(Attempt(step[1], step[0], 0.5))
    assert attempts[-1].recipe.trained
    assert [a.recipe.halved for a in attempts] == [not a.recipe.trained for a in attempts]
    assert all(a.recipe.whole.halved for a in attempts[:-1])


def largest_weight(quantizer: Any, recipe: Recipe, folder: Path) -> int:
    """Of the 8-bit weights in the file, but for depthwise layers, which add no pairs."""
    target = folder / f"{recipe.halved}{quantizer.suffix}"
    quantizer.quantize(tiny_depthwise(), SAMPLES, recipe, (), target)
    if target.suffix == ".onnx":
        stored = [numpy_helper.to_array(t) for t in onnx.load(str(target)).graph.initializer]
        found = [array for array in stored if array.dtype == np.int8]
    else:
        nodes = openvino_core().read_model(str(target)).get_ops()
        constants = [node for node in nodes if node.get_type_name() == "Constant"]
        kinds = [node.get_element_type().get_type_name() for node in constants]
        found = [
            node.data.view(np.int8)
            for node, kind in zip(constants, kinds, strict=True)
            if kind == "i8"
        ]
    paired = [array for array in found if array.size > 1 and array.shape[-1] != 3]
    assert paired
    return int(max(np.abs(array.astype(int)).max() for array in paired))


@pytest.mark.parametrize("quantizer", [OnnxRuntimeQdq, NncfOpenVino])
def test_halved_weights_leave_sums_of_two_products_room(quantizer: Any, tmp_path: Path) -> None:
    if quantizer.missing() is not None:
        pytest.skip(f"{quantizer.missing()} is not installed")
    assert largest_weight(quantizer, Recipe(halved=True), tmp_path) <= FITS
    assert largest_weight(quantizer, Recipe(), tmp_path) > FITS


def test_sensitivity_rounds_weights_as_the_recipe_does() -> None:
    halved = Recipe(halved=True)
    for quantizer, depthwise in ((NncfOpenVino, 127), (OnnxRuntimeQdq, 63)):
        steps = quantizer.scheme.weight_steps
        assert steps(Recipe(), False) == steps(Recipe(), True) == 127
        assert (steps(halved, False), steps(halved, True)) == (63, depthwise)
    weights = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)
    fine, coarse = (np.abs(rounded_weights(weights, 0, n) - weights).mean() for n in (127, 63))
    assert coarse == pytest.approx(2 * fine, rel=0.3)


def test_a_range_per_tensor_ends_where_samples_do_on_average_for_nncf() -> None:
    """One sample of four reaches far; ONNX Runtime takes all of it."""
    far = [np.array([[[[0.0]], [[top]]]], np.float32) for top in (1.0, 1.0, 1.0, 9.0)]
    ranges = Ranges.gathered({"t": value} for value in far)
    mean, widest = (Scheme(False, True, by_mean, False) for by_mean in (True, False))
    assert [float(end) for end in _ends(ranges, "t", False, mean)] == [0.0, 3.0]
    assert [float(end) for end in _ends(ranges, "t", False, widest)] == [0.0, 9.0]
    assert _ends(ranges, "t", True, mean)[1].tolist() == [0.0, 9.0]


def lowest_ends(model: onnx.ModelProto, folder: Path) -> list[float]:
    """Lower ends of the ranges of activations, as shares of the upper ones."""
    target = folder / "int8.xml"
    NncfOpenVino.quantize(named(model), SAMPLES, Recipe(), (), target)
    found = []
    for node in openvino_core().read_model(str(target)).get_ops():
        if node.get_type_name() == "FakeQuantize":
            low, high = (node.input_value(i).get_node().data.ravel() for i in (3, 4))
            found += (low / high).tolist()
    return found


def with_tails(model: onnx.ModelProto) -> onnx.ModelProto:
    """LeakyReLU in the place of every ReLU."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type == "Relu":
            node.op_type = "LeakyRelu"
            node.attribute.append(helper.make_attribute("alpha", 0.1))
    return copy


def test_ranges_are_symmetric_unless_activations_have_small_tails_below_zero(
    tmp_path: Path,
) -> None:
    pytest.importorskip("nncf")
    around_zero = [share for share in lowest_ends(tiny_depthwise(), tmp_path) if share < 0]
    assert all(share == pytest.approx(-1, abs=0.02) for share in around_zero)
    tails = [share for share in lowest_ends(with_tails(tiny_depthwise()), tmp_path) if share < 0]
    assert any(share > -0.5 for share in tails)
