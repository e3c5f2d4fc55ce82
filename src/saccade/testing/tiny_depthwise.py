"""A depthwise classifier small enough to build in a test, and images that it tells apart."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

BLOCKS, CHANNELS, CLASSES, SIZE = 4, 24, 10, 32


def tiny_depthwise(seed: int = 0) -> onnx.ModelProto:
    """Blocks of expansion, depthwise and projection: ``(1, 3, 32, 32)`` in, ``(1, 10)`` out."""
    random = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, NDArray[np.float32]] = {}

    def convolution(taken: str, name: str, shape: tuple[int, ...], relu: bool, **how: int) -> str:
        fan_in = float(np.prod(shape[1:]))
        constants[f"w_{name}"] = random.normal(0, (2 / fan_in) ** 0.5, shape).astype(np.float32)
        constants[f"b_{name}"] = random.normal(0, 0.05, shape[0]).astype(np.float32)
        window = shape[2]
        nodes.append(
            helper.make_node(
                "Conv",
                [taken, f"w_{name}", f"b_{name}"],
                [name],
                name,
                kernel_shape=[window] * 2,
                pads=[window // 2] * 4,
                strides=[how.get("stride", 1)] * 2,
                group=how.get("group", 1),
            )
        )
        if not relu:
            return name
        nodes.append(helper.make_node("Relu", [name], [f"{name}_r"], f"{name}_r"))
        return f"{name}_r"

    at = convolution("images", "stem", (CHANNELS, 3, 3, 3), True, stride=2)
    for block in range(BLOCKS):
        wide = 2 * CHANNELS
        at = convolution(at, f"expand{block}", (wide, CHANNELS, 1, 1), True)
        at = convolution(at, f"depth{block}", (wide, 1, 3, 3), True, group=wide)
        at = convolution(at, f"project{block}", (CHANNELS, wide, 1, 1), False)
    constants["w_classes"] = random.normal(0, 1, (CLASSES, CHANNELS)).astype(np.float32)
    nodes += [
        helper.make_node("GlobalAveragePool", [at], ["pooled"], "pooled"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "w_classes"], ["logits"], "classes", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny_depthwise",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def textures(count: int, seed: int = 0) -> list[NDArray[np.float32]]:
    """``count`` inputs ``(1, 3, 32, 32)`` float32 about zero, each of its own grain and colours."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        grain = int(random.choice([1, 2, 4, 8]))
        coarse = random.normal(0, 1, (3, SIZE // grain, SIZE // grain))
        fine = coarse.repeat(grain, 1).repeat(grain, 2) * random.uniform(0.5, 1.5, (3, 1, 1))
        found.append((fine + random.normal(0, 0.5, (3, 1, 1)))[None].astype(np.float32))
    return found
