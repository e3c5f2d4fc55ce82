"""Folding batch norms into int8 layers with groups, transposed ones among them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from saccade.optimize.quantization.ort_form import for_onnxruntime

SIDE = 5
# Biases are rounded to steps of input times weight times gain, 0.02 * 0.01 * 3 at most.
ROUNDING = 1e-3

shapes = st.tuples(*[st.integers(1, 3)] * 3)  # groups, channels that each takes and gives


def model_of(nodes: list[onnx.NodeProto], constants: dict[str, Any], taken: int) -> onnx.ModelProto:
    """``images`` rounded to int8 and back, then the nodes given, up to ``end``."""
    values = {"step": np.float32(0.02), "zero": np.uint8(128), **constants}
    rounding = [
        helper.make_node("QuantizeLinear", ["images", "step", "zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["rounded", "step", "zero"], ["taken"]),
    ]
    graph = helper.make_graph(
        [*rounding, *nodes],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, taken, SIDE, SIDE])],
        [helper.make_tensor_value_info("end", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def norm_of(taken: str, given_name: str, name: str) -> onnx.NodeProto:
    inputs = [taken, *(f"{name}/{part}" for part in ("gamma", "beta", "mean", "variance"))]
    return helper.make_node("BatchNormalization", inputs, [given_name], name, epsilon=1e-3)


def norm_constants(name: str, channels: int, random: np.random.Generator) -> dict[str, Any]:
    """Gains of both signs, up to three."""
    parts = {
        "gamma": random.uniform(0.2, 1.5, channels) * random.choice([-1, 1], channels),
        "beta": random.normal(size=channels),
        "mean": random.normal(size=channels),
        "variance": random.uniform(0.3, 2, channels),
    }
    return {f"{name}/{part}": value.astype(np.float32) for part, value in parts.items()}


def layer_and_norm(
    kind: str, shape: tuple[int, ...], axis: int | None, bias: bool, seed: int
) -> onnx.ModelProto:
    """A rounded layer and its norm; weights have a step for each index of ``axis``, or one."""
    groups, taken, made = shape
    random = np.random.default_rng(seed)
    dims = (groups * made, taken) if kind == "Conv" else (groups * taken, made)
    weight = random.integers(-127, 128, (*dims, 3, 3)).astype(np.int8)
    steps = random.uniform(0.002, 0.01, () if axis is None else (dims[axis],))
    constants = {
        "weight": weight,
        "weight/step": steps.astype(np.float32),
        "weight/zero": np.zeros(steps.shape, np.int8),
        **norm_constants("norm", groups * made, random),
    }
    if bias:
        constants["bias"] = random.normal(size=groups * made).astype(np.float32)
    chosen = {} if axis is None else {"axis": axis}
    rounded = ["weight", "weight/step", "weight/zero"]
    inputs = ["taken", "w", *(["bias"] if bias else [])]
    nodes = [
        helper.make_node("DequantizeLinear", rounded, ["w"], **chosen),
        helper.make_node(kind, inputs, ["given"], "layer", group=groups),
        norm_of("given", "end", "norm"),
    ]
    return model_of(nodes, constants, groups * taken)


def answer(model: onnx.ModelProto) -> NDArray[np.float32]:
    """Without optimization, so that every node is computed as it stands."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    channels = session.get_inputs()[0].shape[1]
    images = np.random.default_rng(1).normal(0, 1, (1, channels, SIDE, SIDE)).astype(np.float32)
    found: NDArray[np.float32] = session.run(None, {"images": images})[0]
    return found


def norms(model: onnx.ModelProto) -> int:
    return sum(node.op_type == "BatchNormalization" for node in model.graph.node)


@settings(max_examples=60)
@given(
    kind=st.sampled_from(["Conv", "ConvTranspose"]),
    shape=shapes,
    axis=st.sampled_from([None, 0, 1]),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_values_stay_for_every_grouping(
    kind: str, shape: tuple[int, ...], axis: int | None, bias: bool, seed: int
) -> None:
    model = layer_and_norm(kind, shape, axis, bias, seed)
    changed = for_onnxruntime(model)
    assert np.abs(answer(changed) - answer(model)).max() < ROUNDING


@pytest.mark.parametrize(
    ("kind", "shape", "axis", "folded"),
    [
        ("Conv", (1, 3, 4), 0, True),
        ("Conv", (3, 2, 2), 0, True),
        ("Conv", (4, 1, 1), None, True),
        ("ConvTranspose", (1, 3, 4), 1, True),
        ("ConvTranspose", (4, 1, 1), 0, True),  # depthwise
        ("ConvTranspose", (2, 3, 1), None, True),
        # The gain differs by group and within it, and a step is for one index of one axis.
        ("ConvTranspose", (2, 2, 2), 1, False),
        ("Conv", (1, 3, 4), 1, False),  # steps by input channel
    ],
)
def test_a_norm_is_folded_where_steps_can_hold_it(
    kind: str, shape: tuple[int, ...], axis: int | None, folded: bool
) -> None:
    changed = for_onnxruntime(layer_and_norm(kind, shape, axis, bias=True, seed=0))
    assert (norms(changed) == 0) is folded


def test_weights_that_two_layers_share_keep_both_norms() -> None:
    """Detectors use one head at every level, each with norms of its own."""
    random = np.random.default_rng(0)
    constants = {
        "weight": random.integers(-127, 128, (3, 3, 1, 1)).astype(np.int8),
        "weight/step": np.full(3, 0.01, np.float32),
        "weight/zero": np.zeros(3, np.int8),
        **norm_constants("one", 3, random),
        **norm_constants("two", 3, random),
    }
    rounded = ["weight", "weight/step", "weight/zero"]
    nodes = [
        helper.make_node("DequantizeLinear", rounded, ["w"], axis=0),
        helper.make_node("Conv", ["taken", "w"], ["first"], "first"),
        helper.make_node("Conv", ["taken", "w"], ["second"], "second"),
        norm_of("first", "a", "one"),
        norm_of("second", "b", "two"),
        helper.make_node("Add", ["a", "b"], ["end"]),
    ]
    model = model_of(nodes, constants, 3)
    assert np.abs(answer(for_onnxruntime(model)) - answer(model)).max() < ROUNDING


def test_a_bias_and_weights_that_are_not_symmetric_are_kept() -> None:
    """A rounded bias (int32) and a zero point of the weights are part of what a norm multiplies."""
    random = np.random.default_rng(0)
    constants = {
        "weight": random.integers(-120, 100, (3, 3, 1, 1)).astype(np.int8),
        "weight/step": np.full(3, 0.01, np.float32),
        "weight/zero": np.full(3, 7, np.int8),
        "bias": np.array([5000, -3000, 100], np.int32),
        "bias/step": np.full(3, 2e-4, np.float32),
        **norm_constants("norm", 3, random),
    }
    rounded = ["weight", "weight/step", "weight/zero"]
    nodes = [
        helper.make_node("DequantizeLinear", rounded, ["w"], axis=0),
        helper.make_node("DequantizeLinear", ["bias", "bias/step"], ["c"], axis=0),
        helper.make_node("Conv", ["taken", "w", "c"], ["given"], "layer"),
        norm_of("given", "end", "norm"),
    ]
    model = model_of(nodes, constants, 3)
    assert np.abs(answer(for_onnxruntime(model)) - answer(model)).max() < ROUNDING
