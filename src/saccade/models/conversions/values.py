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


def module_layers(module: Any, tensor: NDArray[np.float32]) -> list[Layer]:
    """The outputs of an ``nn.Module``'s innermost modules that are one tensor each.

    A module that is called twice is there twice. Modules do not say whose outputs they read.

    Args:
        module: in evaluation mode, no TorchScript.
        tensor: the input, ``(1, 3, H, W)``.
    """
    import torch

    layers: list[Layer] = []

    def record(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            if torch.is_tensor(output):
                # A copy: layers that work in place write over what they read.
                layers.append(Layer(name, np.array(flat(output)[0])))

        return hook

    inner = [(n, m) for n, m in module.named_modules() if n and not any(m.children())]
    hooks = [one.register_forward_hook(record(name)) for name, one in inner]
    try:
        with torch.inference_mode():
            module(torch.from_numpy(tensor))
    finally:
        for hook in hooks:
            hook.remove()
    return layers


def script_layers(module: Any, tensor: NDArray[np.float32]) -> list[Layer]:
    """The steps of a TorchScript module that make one tensor each, outside loops and branches.

    TorchScript runs without Python, so hooks see nothing. Its graph is run once more with every
    such value as an output.

    Args:
        module: from ``torch.jit.load``, in evaluation mode.
        tensor: the input, ``(1, 3, H, W)``.
    """
    import torch

    # Weights become constants; folding layers into one another would lose their values.
    frozen = torch.jit.freeze(module, optimize_numerics=False)
    graph = frozen.graph.copy()
    torch._C._jit_pass_inline(graph)
    steps = [node for node in graph.nodes() if _makes_tensor(node)]
    for _ in list(graph.outputs()):
        graph.eraseOutput(0)
    for step in steps:
        graph.registerOutput(step.output())
    # One output is returned as it is, several are a tuple.
    graph.makeMultiOutputIntoTuple()
    run = torch._C._create_function_from_graph("layers", graph)
    with torch.inference_mode():
        found = run(frozen._c, torch.from_numpy(tensor))
    names = {step.output().debugName(): _step_name(step) for step in steps}
    reads = [tuple(names.get(v.debugName(), "") for v in step.inputs()) for step in steps]
    return [
        Layer(_step_name(step), np.array(flat(value)[0]), read)
        for step, value, read in zip(steps, found, reads, strict=True)
    ]


def _makes_tensor(node: Any) -> bool:
    made = list(node.outputs())
    wanted = len(made) == 1 and made[0].type().kind() == "TensorType"
    return wanted and node.kind().startswith("aten::")


def _step_name(node: Any) -> str:
    """Which operator, and of which module where its weights say so: ``head: linear (input.3)``."""
    # Equal flags share one constant, so only tensors tell whose they are.
    tensors = (value for value in node.inputs() if value.type().kind() == "TensorType")
    given = (value.debugName() for value in tensors)
    owners = [name.split(".")[1:-1] for name in given if name.startswith("self.")]
    where = f"{'.'.join(owners[0])}: " if owners and owners[0] else ""
    return f"{where}{node.kind().removeprefix('aten::')} ({node.output().debugName()})"


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
