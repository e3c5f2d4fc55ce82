"""Which layers of an exported PyTorch program int8 disturbs: one at a time is rounded.

The counterpart of `saccade.optimize.quantization.sensitivity` for programs that no ONNX graph
stands for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.models.torch_program import flat
from saccade.optimize.quantization.contract import Samples
from saccade.optimize.quantization.rounding import TINY, rounded_weights
from saccade.optimize.quantization.sensitivity import (
    IMAGES,
    Sensitivity,
    by_sensitivity,
    relative_error,
)

# Layers with weights, by the beginnings of their names in graphs.
_WEIGHTED = ("aten.conv1d", "aten.conv2d", "aten.linear")


def weighted(module: Any) -> list[Any]:
    """Nodes that convolve or multiply with weights of their own, in graph order.

    Args:
        module: the ``torch.fx.GraphModule`` of an exported program.
    """
    return [
        node
        for node in module.graph.nodes
        if node.op == "call_function"
        and str(node.target).startswith(_WEIGHTED)
        and getattr(node.args[1], "op", "") == "get_attr"
    ]


def output_layers(module: Any, depth: int) -> list[str]:
    """Names of nodes fewer than ``depth`` layers with weights away from an output."""
    layers = set(weighted(module))
    seen: dict[Any, int] = {}
    ends = [node for node in module.graph.nodes if node.op == "output"]
    queue = [(before, 0) for end in ends for before in end.all_input_nodes]
    while queue:
        node, passed = queue.pop()
        if passed >= depth or seen.get(node, depth) <= passed:
            continue
        seen[node] = passed
        queue += [(before, passed + (node in layers)) for before in node.all_input_nodes]
    return sorted(node.name for node in seen if node.op == "call_function")


def measure(
    module: Any, samples: Samples, levels: int, budget_s: float, partly: bool
) -> list[Sensitivity]:
    """Sensitivity of every layer, the largest first.

    Args:
        module: the ``torch.fx.GraphModule`` of the float program.
        samples: calibration inputs, ``(1, 3, H, W)``.
        levels: steps of an activation's range, 127 or 255.
        budget_s: seconds that it may take.
        partly: where that is too little for all layers, measure those that it allows; else none,
            which is told from the first few.
    """
    chosen = list(samples)[:IMAGES]
    every = weighted(module)
    ranges = _taken(module, [node.name for node in every], samples)
    exact = [_run(module, sample) for sample in chosen]

    def look(node: Any) -> Sensitivity:
        rough = [_run(module, one, node.name, ranges[node.name], levels) for one in chosen]
        kind = str(node.target).split(".")[1]
        return Sensitivity(node.name, kind, relative_error(exact, rough))

    return by_sensitivity(every, look, budget_s, partly)


def _taken(module: Any, names: Sequence[str], samples: Samples) -> dict[str, tuple[float, float]]:
    """Smallest and largest value that each layer takes, over all samples; zero is within."""
    import torch

    ends = dict.fromkeys(names, (0.0, 0.0))

    class Watching(torch.fx.Interpreter):  # type: ignore[misc]
        def run_node(self, n: Any) -> Any:
            if n.name in ends:
                taken = self.fetch_args_kwargs_from_env(n)[0][0]
                low, high = ends[n.name]
                ends[n.name] = (min(low, float(taken.min())), max(high, float(taken.max())))
            return super().run_node(n)

    with torch.inference_mode():
        for sample in samples:
            Watching(module).run(torch.from_numpy(np.ascontiguousarray(sample)))
    return ends


def _run(
    module: Any,
    sample: NDArray[np.float32],
    layer: str = "",
    ends: tuple[float, float] = (0.0, 0.0),
    levels: int = 0,
) -> list[NDArray[Any]]:
    """Outputs on one input, a layer's input and weights rounded where one is named."""
    import torch

    scale = max((ends[1] - ends[0]) / max(levels, 1), TINY)
    zero = round(-ends[0] / scale)

    class Rounding(torch.fx.Interpreter):  # type: ignore[misc]
        def run_node(self, n: Any) -> Any:
            if n.name != layer:
                return super().run_node(n)
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            taken = torch.fake_quantize_per_tensor_affine(args[0], scale, zero, 0, levels)
            weights = torch.from_numpy(rounded_weights(args[1].detach().numpy(), 0))
            return n.target(taken, weights, *args[2:], **kwargs)

    with torch.inference_mode():
        return list(flat(Rounding(module).run(torch.from_numpy(np.ascontiguousarray(sample)))))
