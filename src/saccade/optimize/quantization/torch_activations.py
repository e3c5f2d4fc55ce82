"""Ranges of an exported PyTorch program's activations on real inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.models.conversions.values import program_layers
from saccade.optimize.quantization.activations import Ranges
from saccade.optimize.quantization.contract import Samples

WEIGHTED = ("conv", "linear", "addmm", "matmul")


def observe_program(module: Any, samples: Samples) -> Ranges:
    """Run the program's module and note the ranges of what layers with weights give.

    Args:
        module: a ``torch.fx.GraphModule`` of an exported program.
        samples: inputs ``(1, 3, H, W)``.
    """
    weighted = {
        node.name
        for node in module.graph.nodes
        if node.op == "call_function" and any(kind in str(node.target) for kind in WEIGHTED)
    }

    def each() -> Iterator[dict[str, NDArray[np.float32]]]:
        for sample in samples:
            layers = program_layers(module, np.ascontiguousarray(sample))
            yield {layer.name: layer.value for layer in layers if layer.name in weighted}

    return Ranges.gathered(each())
