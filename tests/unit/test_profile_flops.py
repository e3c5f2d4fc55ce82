from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from saccade.errors import ModelError
from saccade.profile.flops import operator_work


def model(
    nodes: list[Any],
    weights: dict[str, Any],
    shape: tuple[int | str, ...] = (1, 3, "height", "width"),
    output: str = "y",
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def conv(weights: tuple[int, ...], **attributes: Any) -> onnx.ModelProto:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="c", **attributes)
    return model([node], {"w": np.zeros(weights, np.float32)})


def test_convolution_by_hand() -> None:
    work = operator_work(conv((16, 3, 3, 3), pads=[1] * 4, strides=[2, 2]), (32, 64))["c"]
    assert work.flops == 2 * (16 * 16 * 32) * (3 * 3 * 3)
    assert work.bytes == 4 * (3 * 32 * 64 + 16 * 3 * 9 + 16 * 16 * 32)
    assert work.outputs == ("y",)


def test_grouped_convolution_sums_over_its_group_only() -> None:
    work = operator_work(conv((3, 1, 3, 3), pads=[1] * 4, group=3), (8, 8))["c"]
    assert work.flops == 2 * (3 * 8 * 8) * 9


def test_transposed_convolution_spreads_every_input_element() -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="up", strides=[2, 2])
    work = operator_work(model([node], {"w": np.zeros((3, 5, 2, 2), np.float32)}), (8, 8))["up"]
    assert work.flops == 2 * (3 * 8 * 8) * (5 * 2 * 2)


def test_gemm_matmul_and_elementwise() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w"], ["g"], name="gemm", transB=1),
        helper.make_node("MatMul", ["g", "v"], ["y"], name="product"),
    ]
    weights = {"w": np.zeros((10, 48), np.float32), "v": np.zeros((10, 7), np.float32)}
    work = operator_work(model(nodes, weights), (4, 4))
    assert work["r"].flops == 48  # without a name, a node goes by its output
    assert (work["flat"].flops, work["flat"].bytes) == (0, 0)
    assert work["gemm"].flops == 2 * 10 * 48
    assert work["product"].flops == 2 * 7 * 10


def test_pooling_and_reduction() -> None:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p"], ["y"], name="mean"),
    ]
    work = operator_work(model(nodes, {}), (8, 8))
    assert work["pool"].flops == 3 * 4 * 4 * 4
    assert work["mean"].flops == 3 * 4 * 4


def test_shapes_that_only_a_run_can_tell_are_observed() -> None:
    # NonZero's output size depends on data: no inference can know it.
    nodes = [
        helper.make_node("Cos", ["x"], ["one"]),
        helper.make_node("NonZero", ["one"], ["n"], name="nonzero"),
        helper.make_node("Cast", ["n"], ["k"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["w", "k"], ["y"], name="product"),
    ]
    built = model(nodes, {"w": np.ones((5, 4), np.float32)})
    work = operator_work(built, (4, 4))
    assert work["product"].flops == 2 * (5 * 48) * 4  # of zeros' cosines, none is zero


def test_another_size_than_the_fixed_one_is_refused() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    with pytest.raises(ModelError, match=r"fixed input of 416×416.*640×640"):
        operator_work(model([node], {}, (1, 3, 416, 416)), (640, 640))


def test_channels_last_input_is_sized_in_its_own_order() -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    built = model([node], {}, (1, "height", "width", 3))
    assert operator_work(built, (8, 4))["relu"].flops == 8 * 4 * 3


def test_a_graph_that_cannot_run_is_named_as_such() -> None:
    nodes = [
        helper.make_node("Nonsense", ["x"], ["n"], domain="nowhere"),
        helper.make_node("Relu", ["n"], ["y"]),
    ]
    built = model(nodes, {})
    built.opset_import.append(helper.make_opsetid("nowhere", 1))
    with pytest.raises(ModelError, match="cannot be determined"):
        operator_work(built, (8, 8))


@pytest.mark.demo_model
@pytest.mark.parametrize(("input_hw", "gflop"), [((640, 640), 6.5), ((384, 640), 3.9)])
def test_yolo11n_is_covered_in_full(yolo11n: Path, input_hw: tuple[int, int], gflop: float) -> None:
    loaded = onnx.load(str(yolo11n))
    before = loaded.SerializeToString()
    work = operator_work(loaded, input_hw)
    convolutions = [item for item in work.values() if item.kind == "Conv"]
    assert len(convolutions) == 88
    assert all(item.flops > 0 and item.bytes > 0 for item in convolutions)
    assert sum(item.flops for item in work.values()) / 1e9 == pytest.approx(gflop, rel=0.02)
    assert loaded.SerializeToString() == before
