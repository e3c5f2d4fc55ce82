"""Small ONNX graphs, built as an exporter would for a given input size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def model_of(
    nodes: Sequence[onnx.NodeProto],
    outputs: dict[str, Sequence[int | str]],
    constants: dict[str, np.ndarray] | None = None,
    shape: Sequence[int | str] = (1, 3, 64, 64),
    metadata: dict[str, str] | None = None,
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("images", dtype, list(shape))],
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, list(v)) for k, v in outputs.items()],
        [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    return model


def attention() -> onnx.ModelProto:
    """Tokens that attend to each other: four products with weights, and two of activations."""
    width = 4
    nodes = [helper.make_node("MatMul", ["images", f"w_{name}"], [name], name) for name in "qkv"]
    nodes += [
        helper.make_node("Transpose", ["k"], ["turned"], "turned", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "turned"], ["alike"], "alike"),
        helper.make_node("Softmax", ["alike"], ["attended"], "attended", axis=-1),
        helper.make_node("MatMul", ["attended", "v"], ["mixed"], "mixed"),
        helper.make_node("MatMul", ["mixed", "w_out"], ["out"], "out"),
    ]
    random = np.random.default_rng(0)
    sides = (width, width)
    constants = {f"w_{n}": random.normal(size=sides).astype(np.float32) for n in (*"qkv", "out")}
    return model_of(nodes, {"out": (1, 6, width)}, constants, shape=(1, 6, width))


def headless(
    output: Sequence[int | str], *, raw: bool = False, operator: str = "Mul", **kwargs: object
) -> onnx.ModelProto:
    """Only what recognition looks at: the declared shapes and what comes before the output."""
    constants = {"w": np.zeros((4, 3, 1, 1), np.float32), "target": np.array([1, 4, -1])}
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["features"]),
        helper.make_node("Reshape", ["features", "target"], ["joined" if not raw else "output0"]),
    ]
    if not raw:
        inputs = ["joined", "joined"] if operator == "Mul" else ["joined"]
        nodes.append(helper.make_node(operator, inputs, ["output0"]))
    return model_of(nodes, {"output0": output}, constants, **kwargs)  # type: ignore[arg-type]


def _conv(level: int, stride: int, channels: int) -> tuple[onnx.NodeProto, np.ndarray]:
    weight = np.random.default_rng(level).normal(0, 0.05, (channels, 3, stride, stride))
    node = helper.make_node(
        "Conv", ["images", f"w{level}"], [f"p{level}"], strides=[stride, stride]
    )
    return node, weight.astype(np.float32)


def anchor_free(
    hw: tuple[int, int], *, offset: float = 0.5, step: float = 1.0, noise: float = 0.0
) -> onnx.ModelProto:
    """Three levels joined, anchor points ``(1, 2, N)`` and strides ``(1, N)`` as constants."""
    nodes, constants = [], {}
    points, strides = [], []
    for level, stride in enumerate((8, 16, 32)):
        node, constants[f"w{level}"] = _conv(level, stride, 6)
        rows, columns = hw[0] // stride, hw[1] // stride
        constants[f"target{level}"] = np.array([1, 6, rows * columns])
        nodes += [node, helper.make_node("Reshape", [f"p{level}", f"target{level}"], [f"r{level}"])]
        y, x = np.mgrid[:rows, :columns]
        points.append((np.stack([x.ravel(), y.ravel()]) + offset) * step)
        strides.append(np.full(rows * columns, float(stride)))
    constants["points"] = np.concatenate(points, 1)[None].astype(np.float32)
    constants["points"][0, 0, 5] += noise
    constants["strides"] = np.concatenate(strides)[None].astype(np.float32)
    constants["parts"] = np.array([2, 4])
    nodes += [
        helper.make_node("Concat", ["r0", "r1", "r2"], ["all"], axis=2),
        helper.make_node("Split", ["all", "parts"], ["xy", "rest"], axis=1),
        helper.make_node("Add", ["xy", "points"], ["moved"]),
        helper.make_node("Mul", ["moved", "strides"], ["pixels"]),
        helper.make_node("Concat", ["pixels", "rest"], ["output0"], axis=1),
    ]
    count = constants["strides"].size
    return model_of(nodes, {"output0": (1, 6, count)}, constants, (1, 3, *hw))


def anchor_based(hw: tuple[int, int]) -> onnx.ModelProto:
    """One level with three anchors per cell and a grid ``(1, 1, rows, columns, 6)``."""
    rows, columns = hw[0] // 8, hw[1] // 8
    node, weight = _conv(0, 8, 18)
    y, x = np.mgrid[:rows, :columns]
    grid = np.zeros((1, 1, rows, columns, 6), np.float32)
    grid[..., 0], grid[..., 1] = x - 0.5, y - 0.5
    constants = {
        "w0": weight,
        "split": np.array([1, 3, 6, rows, columns]),
        "grid": grid,
        "join": np.array([1, 3 * rows * columns, 6]),
    }
    nodes = [
        node,
        helper.make_node("Reshape", ["p0", "split"], ["levels"]),
        helper.make_node("Transpose", ["levels"], ["last"], perm=[0, 1, 3, 4, 2]),
        helper.make_node("Add", ["last", "grid"], ["moved"]),
        helper.make_node("Reshape", ["moved", "join"], ["output0"]),
    ]
    return model_of(nodes, {"output0": (1, 3 * rows * columns, 6)}, constants, (1, 3, *hw))


def flattening(hw: tuple[int, int]) -> onnx.ModelProto:
    """A head that multiplies all features with trained weights: bound to its size."""
    node, weight = _conv(0, 8, 4)
    cells = hw[0] // 8 * (hw[1] // 8)
    constants = {
        "w0": weight,
        "flat": np.array([1, 4 * cells]),
        "dense": np.ones((4 * cells, 10), np.float32),
    }
    nodes = [
        node,
        helper.make_node("Reshape", ["p0", "flat"], ["features"]),
        helper.make_node("MatMul", ["features", "dense"], ["output0"]),
    ]
    return model_of(nodes, {"output0": (1, 10)}, constants, (1, 3, *hw))


def run(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"images": image})[0])
