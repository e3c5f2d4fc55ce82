"""Reshaping a graph must give what the exporter would have given at that size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from models_graphs import anchor_based, anchor_free, flattening, run
from onnx import helper

from saccade.errors import ModelError
from saccade.models.reshape import can_reshape, reshape


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.mark.parametrize("build", [anchor_free, anchor_based])
@pytest.mark.parametrize("new", [(64, 96), (96, 64), (128, 128), (64, 32)])
def test_equals_native_export(
    build: Callable[[tuple[int, int]], onnx.ModelProto], new: tuple[int, int]
) -> None:
    image = noise((1, 3, *new))
    reshaped = reshape(build((64, 64)), new)
    np.testing.assert_allclose(run(reshaped, image), run(build(new), image), atol=1e-5)


def test_grid_in_pixels_and_integer_points() -> None:
    image = noise((1, 3, 96, 64))
    for offset in (0.0, 0.5, 1.0):
        reshaped = reshape(anchor_free((64, 128), offset=offset), (96, 64))
        native = anchor_free((96, 64), offset=offset)
        np.testing.assert_allclose(run(reshaped, image), run(native, image), atol=1e-5)


def test_original_is_untouched() -> None:
    model = anchor_free((64, 64))
    before = model.SerializeToString()
    reshape(model, (96, 64))
    assert model.SerializeToString() == before


def test_constant_nodes_are_followed() -> None:
    """Unsimplified exports hold constants in nodes, and compute with them."""
    model = anchor_free((64, 64))
    for tensor in list(model.graph.initializer):
        if tensor.name in ("points", "target0"):
            node = helper.make_node("Constant", [], [tensor.name + "_raw"], value=tensor)
            same = helper.make_node("Identity", [tensor.name + "_raw"], [tensor.name])
            model.graph.initializer.remove(tensor)
            model.graph.node.insert(0, same)
            model.graph.node.insert(0, node)
    image = noise((1, 3, 96, 64))
    np.testing.assert_allclose(
        run(reshape(model, (96, 64)), image), run(anchor_free((96, 64)), image), atol=1e-5
    )


def test_batch() -> None:
    images = noise((3, 3, 96, 64))
    together = run(reshape(anchor_free((64, 64)), (96, 64), batch=3), images)
    single = reshape(anchor_free((64, 64)), (96, 64))
    for index in range(3):
        np.testing.assert_allclose(
            together[index], run(single, images[index : index + 1])[0], atol=1e-5
        )


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (anchor_free((64, 64), noise=0.3), ("[1, 2, 84]", "Add", "not an anchor grid")),
        (anchor_free((64, 64), step=1 / 64), ("not an anchor grid", "step from cell to cell")),
        (flattening((64, 64)), ("MatMul", "weights of shape [256, 10]")),
    ],
)
def test_refused_with_reason(model: onnx.ModelProto, words: tuple[str, ...]) -> None:
    reason = can_reshape(model, (96, 64))
    assert reason is not None
    assert all(word in reason for word in words), reason
    with pytest.raises(ModelError, match="cannot be reshaped to 96x64"):
        reshape(model, (96, 64))


@pytest.mark.parametrize("scale", ([160.0] * 4, [160.0], [1 / 160] * 4))
def test_a_scale_by_the_input_size_is_refused(scale: list[float]) -> None:
    """Boxes as shares of the input: at another size they would be shares of the old one."""
    model = anchor_free((160, 160))
    model.graph.node[-1].output[0] = "pixels_and_rest"
    factor = np.array(scale, np.float32).reshape(1, -1, 1)
    model.graph.initializer.append(onnx.numpy_helper.from_array(factor, "factor"))
    padded = helper.make_node("Slice", ["pixels_and_rest", "zero", "four", "one"], ["boxes"])
    for name, value in (("zero", 0), ("four", 4), ("one", 1)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([value]), name))
    operator = "Div" if scale[0] > 1 else "Mul"
    divided = helper.make_node(operator, ["boxes", "factor"], ["output0"])
    model.graph.node.extend([padded, divided])
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 4
    assert can_reshape(model, (160, 160)) is None
    reason = can_reshape(model, (96, 160))
    assert reason is not None and "which is the input size" in reason


def test_stride_is_respected() -> None:
    reason = can_reshape(anchor_free((64, 64)), (72, 64))
    assert reason is not None and "stride 32" in reason


def test_fixed_model_with_grids_cannot_be_dynamic() -> None:
    reason = can_reshape(anchor_free((64, 64)), None)
    assert reason is not None and "hold the size" in reason


def test_model_without_size_constants_becomes_dynamic() -> None:
    model = anchor_free((64, 64))
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.node[1:]
    bare.graph.output[0].name = "p0"
    bare.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 8
    bare.graph.output[0].type.tensor_type.shape.dim.add().dim_value = 8
    dynamic = reshape(bare, None)
    assert run(dynamic, noise((1, 3, 160, 32))).shape == (1, 6, 20, 4)
    assert can_reshape(dynamic, None) is None
    assert run(reshape(dynamic, (32, 64)), noise((1, 3, 32, 64))).shape == (1, 6, 4, 8)
