"""What is done to a graph before it is quantized; quantizing itself is tested on real models."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from models_graphs import attention
from onnx import TensorProto, helper, numpy_helper

from saccade.errors import RuntimeFailure
from saccade.optimize.quantization.nncf_ir import fused, head_nodes, ir_names
from saccade.optimize.quantization.recipe import HEAD_FLOAT, OUTPUT_FLOAT
from saccade.runtimes.openvino_core import openvino_core

CONVOLUTIONS = 5
ov = pytest.importorskip("openvino")


@pytest.fixture
def chain() -> object:
    """Five convolutions, each followed by SiLU as ONNX spells it."""
    nodes = []
    for index in range(CONVOLUTIONS):
        given = "images" if index == 0 else f"silu{index - 1}"
        nodes += [
            helper.make_node("Conv", [given, f"w{index}"], [f"conv{index}"], f"conv{index}"),
            helper.make_node("Sigmoid", [f"conv{index}"], [f"gate{index}"], f"gate{index}"),
            helper.make_node(
                "Mul", [f"conv{index}", f"gate{index}"], [f"silu{index}"], f"silu{index}"
            ),
        ]
    weight = np.ones((3, 3, 1, 1), np.float32)
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [
            helper.make_tensor_value_info(
                f"silu{CONVOLUTIONS - 1}", TensorProto.FLOAT, [1, 3, "h", "w"]
            )
        ],
        [numpy_helper.from_array(weight, f"w{index}") for index in range(CONVOLUTIONS)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return openvino_core().read_model(model.SerializeToString())


def test_silu_becomes_one_operator_before_quantization(chain: object) -> None:
    kinds = Counter(node.get_type_name() for node in fused(chain).get_ops())
    assert kinds["Swish"] == CONVOLUTIONS
    assert not kinds["Sigmoid"]


@pytest.mark.parametrize("depth", [0, OUTPUT_FLOAT, HEAD_FLOAT])
def test_what_stays_float_is_the_last_convolutions_and_what_follows(
    chain: object, depth: int
) -> None:
    model = fused(chain)
    kinds = {node.get_friendly_name(): node.get_type_name() for node in model.get_ops()}
    found = Counter(kinds[name] for name in head_nodes(model, depth))
    assert found["Convolution"] == depth
    assert found["Swish"] == depth


def test_the_head_of_a_transformer_ends_at_its_weights() -> None:
    model = openvino_core().read_model(attention().SerializeToString())
    products = {"out", "mixed", "attended", "alike"}
    assert set(head_nodes(model, 1)) & (products | set("qkv")) == {"out"}
    assert set(head_nodes(model, 2)) >= products | set("qkv")


def test_layers_are_found_by_their_onnx_names(chain: object) -> None:
    model = fused(chain)
    names = list(ir_names(model, {"conv1": ("conv1",), "conv3": ("other", "conv3")}))
    kinds = {node.get_friendly_name(): node.get_type_name() for node in model.get_ops()}
    assert [kinds[name] for name in names] == ["Convolution"] * 2
    with pytest.raises(RuntimeFailure, match="'conv9' is not found"):
        list(ir_names(model, {"conv9": ("conv9", "out9")}))
