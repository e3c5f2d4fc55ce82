"""NNCF's graphs in ONNX Runtime's form: the same values, on int8 kernels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from saccade.optimize.quantization.nncf_call import post_training
from saccade.optimize.quantization.ort_form import for_onnxruntime
from saccade.optimize.quantization.recipe import Recipe
from saccade.testing.tiny_depthwise import BLOCKS, textures, tiny_depthwise

SAMPLES, UNSEEN = textures(12), textures(10, seed=9)


def answers(model: onnx.ModelProto, samples: Any, optimized: Path | None = None) -> Any:
    """Without optimization, so that every node is computed as it stands, unless a file is asked."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    )
    if optimized:
        options.optimized_model_filepath = str(optimized)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, disabled_optimizers=["WeightBiasQuantization"]
    )
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: sample})[0] for sample in samples])


@pytest.fixture(scope="module")
def quantized() -> onnx.ModelProto:
    pytest.importorskip("nncf")
    model = tiny_depthwise()
    feeds = [{"images": sample} for sample in SAMPLES]
    return post_training(model, feeds, Recipe(), [], per_tensor=True)


def test_values_stay_as_they_are_but_for_rounded_biases(quantized: onnx.ModelProto) -> None:
    exact = answers(tiny_depthwise(), UNSEEN)
    before, after = answers(quantized, UNSEEN), answers(for_onnxruntime(quantized), UNSEEN)
    assert np.square(after - before).mean() < 0.1 * np.square(before - exact).mean()


def test_convolutions_run_on_int8_kernels(quantized: onnx.ModelProto, tmp_path: Path) -> None:
    counts = []
    for name, model in (("before", quantized), ("after", for_onnxruntime(quantized))):
        answers(model, UNSEEN[:1], tmp_path / f"{name}.onnx")
        nodes = onnx.load(str(tmp_path / f"{name}.onnx")).graph.node
        counts.append(Counter(node.op_type for node in nodes))
    assert counts[0]["QLinearConv"] == 0
    assert counts[1]["QLinearConv"] == 1 + 3 * BLOCKS
    assert counts[1]["Conv"] + counts[1]["FusedConv"] == 0


def rounding_conv(after: list[Any], constants: dict[str, Any]) -> onnx.ModelProto:
    """An int8 convolution of an unsigned input, what is given behind it, and a rounding."""
    random = np.random.default_rng(0)
    values = {
        "step": np.float32(0.02),
        "zero": np.uint8(128),
        "weight": random.integers(-127, 128, (4, 3, 1, 1)).astype(np.int8),
        "weight_step": np.full(4, 0.01, np.float32),
        "weight_zero": np.zeros(4, np.int8),
        **constants,
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "step", "zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["rounded", "step", "zero"], ["taken"]),
        helper.make_node(
            "DequantizeLinear", ["weight", "weight_step", "weight_zero"], ["w"], axis=0
        ),
        helper.make_node("Conv", ["taken", "w"], ["given"], "conv"),
        *after,
        helper.make_node("QuantizeLinear", ["end", "end_step", "end_zero"], ["out_rounded"]),
        helper.make_node("DequantizeLinear", ["out_rounded", "end_step", "end_zero"], ["output"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 5, 5])
        for name, channels in (("images", 3), ("output", 4))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


IMAGES = [np.random.default_rng(i).normal(0, 1, (1, 3, 5, 5)).astype(np.float32) for i in range(4)]


def test_a_batch_norm_becomes_part_of_the_weights() -> None:
    norm = helper.make_node("BatchNormalization", ["given", "g", "b", "m", "v"], ["end"], "norm")
    constants = {
        "g": np.array([1.5, -2.0, 0.3, 1.0], np.float32),  # one turns its channel over
        "b": np.array([0.1, 0.2, -0.3, 0.0], np.float32),
        "m": np.array([0.5, -0.5, 0.0, 1.0], np.float32),
        "v": np.array([1.0, 0.5, 2.0, 1.0], np.float32),
        "end_step": np.float32(0.05),
        "end_zero": np.uint8(120),
    }
    model = rounding_conv([norm], constants)
    changed = for_onnxruntime(model)
    assert "BatchNormalization" not in {node.op_type for node in changed.graph.node}
    # A value half way between two steps may fall to either side.
    gap = np.abs(answers(model, IMAGES) - answers(changed, IMAGES))
    assert gap.max() < 0.06
    assert (gap > 0.01).mean() < 0.02


@pytest.mark.parametrize(("kind", "folded"), [("Gemm", True), ("MatMul", False)])
def test_a_batch_norm_after_a_product_is_folded_where_that_has_a_bias(
    kind: str, folded: bool
) -> None:
    norm = helper.make_node("BatchNormalization", ["given", "g", "b", "m", "v"], ["end"], "norm")
    constants = {
        "g": np.array([1.5, -2.0, 0.3, 1.0], np.float32),
        "b": np.zeros(4, np.float32),
        "m": np.zeros(4, np.float32),
        "v": np.ones(4, np.float32),
        "weight": np.random.default_rng(0).integers(-127, 128, (3, 4)).astype(np.int8),
        "end_step": np.float32(0.05),
        "end_zero": np.uint8(120),
    }
    model = rounding_conv([norm], constants)
    product = next(node for node in model.graph.node if node.op_type == "Conv")
    product.op_type = kind
    next(n for n in model.graph.node if n.output[0] == "w").attribute[0].i = 1
    for end in (*model.graph.input, *model.graph.output):
        del end.type.tensor_type.shape.dim[2:]
    changed = for_onnxruntime(model)
    assert ("BatchNormalization" not in {n.op_type for n in changed.graph.node}) is folded
    rows = [image[:, :, 0, 0] for image in IMAGES]
    gap = np.abs(answers(model, rows) - answers(changed, rows))
    assert gap.max() < 0.06


@pytest.mark.parametrize(("zero", "dropped"), [(0, True), (100, False)])
def test_an_activation_goes_only_where_rounding_cuts_off_as_well(zero: int, dropped: bool) -> None:
    """With a zero point of 100 values below zero would pass."""
    relu = helper.make_node("Relu", ["given"], ["end"])
    constants = {"end_step": np.float32(0.05), "end_zero": np.uint8(zero)}
    model = rounding_conv([relu], constants)
    changed = for_onnxruntime(model)
    assert ("Relu" not in {node.op_type for node in changed.graph.node}) is dropped
    assert np.array_equal(answers(model, IMAGES), answers(changed, IMAGES))


def test_signed_activations_become_unsigned() -> None:
    constants = {"end_step": np.float32(0.05), "end_zero": np.int8(-7)}
    same = helper.make_node("Identity", ["given"], ["end"])
    model = rounding_conv([same], constants)
    changed = for_onnxruntime(model)
    kinds = {tensor.name: tensor.data_type for tensor in changed.graph.initializer}
    zeros = [n.input[2] for n in changed.graph.node if n.op_type == "QuantizeLinear"]
    assert {kinds[name] for name in zeros} == {TensorProto.UINT8}
    assert np.array_equal(answers(model, IMAGES), answers(changed, IMAGES))
