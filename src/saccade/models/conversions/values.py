"""Every value that a model computes on one input, for finding the layer that differs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from saccade.models.conversions.layers import Layer
from saccade.models.graph_reading import real_inputs
from saccade.models.onnx_run import run_once
from saccade.models.torch_program import flat


def program_layers(module: Any, tensor: NDArray[np.float32]) -> list[Layer]:
    """The steps of an exported program's module that make one tensor each.

    Args:
        module: a ``torch.fx.GraphModule``.
        tensor: the input, ``(1, 3, H, W)``.
    """
    import torch

    layers: list[Layer] = []

    class Recorder(torch.fx.Interpreter):  # type: ignore[misc]
        def run_node(self, n: Any) -> Any:
            result = super().run_node(n)
            if n.op == "call_function" and isinstance(result, torch.Tensor):
                reads = tuple(node.name for node in n.all_input_nodes)
                # A copy: layers that work in place write over what they read.
                layers.append(Layer(n.name, np.array(flat(result)[0]), reads))
            return result

    with torch.inference_mode():
        Recorder(module).run(torch.from_numpy(tensor))
    return layers


def onnx_layers(model: onnx.ModelProto, tensor: NDArray[np.float32]) -> list[Layer]:
    """The outputs of an ONNX graph's nodes, under the names of the values.

    Args:
        model: with one image input; it is left alone.
        tensor: the input, ``(1, 3, H, W)``.

    Raises:
        ModelError: ONNX Runtime refuses the graph with all its values as outputs.
    """
    open_model = onnx.ModelProto()
    open_model.CopyFrom(model)
    nodes = [node for node in open_model.graph.node if node.op_type != "Constant"]
    names = [name for node in nodes for name in node.output if name]
    reads = {name: tuple(node.input) for node in nodes for name in node.output}
    del open_model.graph.output[:]
    open_model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    found = run_once(open_model, {real_inputs(model)[0].name: tensor})
    return [Layer(n, value, reads[n]) for n, value in zip(names, found, strict=True)]
