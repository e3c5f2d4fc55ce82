"""A LiteRT net of a few convolutions, one of whose activations can be made too wide for int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from saccade.testing.tiny_formats import _convolution, _Graph

SIDE, WIDTH = 16, 8
LAYERS = 4


def write_chain(path: Path, factor: float = 1.0) -> Path:
    """Four convolutions with ReLU, named ``c0`` to ``c3``; ``c3`` gives the output.

    Args:
        path: where to write.
        factor: one channel that ``c1`` gives is so many times as large, and ``c2`` takes it back;
            in float that changes nothing.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    random = np.random.default_rng(0)
    graph: Any = _Graph(schema)
    image = last = graph.tensor("images", (1, SIDE, SIDE, 3))
    for index in range(LAYERS):
        taken = WIDTH if index else 3
        kernel = random.normal(0, 1 / np.sqrt(taken), (WIDTH, 1, 1, taken)).astype(np.float32)
        bias = random.normal(0, 0.1, WIDTH).astype(np.float32)
        if index == LAYERS - 1:
            bias += 2  # so that no channel of the output is dead
        if index == 1:
            # Positive, so that ReLU lets it through.
            kernel[0], bias[0] = np.abs(kernel[0]) * factor, np.abs(bias[0]) * factor
        if index == 2:
            kernel[..., 0] /= factor
        constants = [graph.constant(f"k{index}", kernel), graph.constant(f"b{index}", bias)]
        given = graph.tensor(f"c{index}", (1, SIDE, SIDE, WIDTH))
        graph.operator("CONV_2D", [last, *constants], given, _convolution(schema, 1), "Conv2D")
        last = given
    builder = flatbuffers.Builder(1024)
    builder.Finish(graph.model(image, last).Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path
