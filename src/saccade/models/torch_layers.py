"""An exported program as a module that has layers again, so that it can be changed and trained.

``torch.export`` leaves a flat graph of functions and the parameters that they read. Tools that
prune or quantize look for layers: a convolution that owns its weight. Here every function with
weights becomes the layer that it came from; all else in the graph stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from saccade.errors import ModelError

# Makes the layer from the call's arguments; entries are values or tensors.
_Maker = Callable[[Any, Sequence[Any]], Any]


def with_layers(program: Any) -> Any:
    """A trainable ``torch.fx.GraphModule`` of an exported program, in evaluation mode.

    Layers used several times stay one layer. The program itself is left alone.

    Args:
        program: a ``torch.export.ExportedProgram`` with one image input.

    Raises:
        ModelError: the program holds no layer that could be made.
    """
    import torch

    # Guards compare every input with the example that the program was exported with.
    module = program.module(check_guards=False)
    layers: dict[tuple[Any, ...], str] = {}
    owned: dict[str, Any] = {}
    for node in list(module.graph.nodes):
        maker = _maker_of(node)
        if maker is None or not _reads_weights(node):
            continue
        key = (str(node.target), *map(str, node.args[1:]), str(node.kwargs))
        if key not in layers:
            layers[key] = _free_name(node.args[1].target, owned)
            owned[layers[key]] = maker(torch, _values(module, node))
        _call_layer(module.graph, node, layers[key])
    if not layers:
        raise ModelError(
            "The program has no convolution, linear layer or normalization with weights of its "
            "own. Bring a model that was exported by torch.export as it was trained."
        )
    for node in list(module.graph.nodes):
        if node.op == "get_attr" and not node.users:
            module.graph.erase_node(node)
        elif node.op == "get_attr":
            owned[node.target] = _kept(_attribute(module, node.target))
    return torch.fx.GraphModule(owned, module.graph).eval()


def _maker_of(node: Any) -> _Maker | None:
    """What makes the layer that a node came from; None where it is no layer."""
    if node.op != "call_function":
        return None
    if str(node.target) == _BATCH_NORM:
        return partial(_batch_norm, node.meta["val"].dim())
    return _MAKERS.get(str(node.target))


def _kept(value: Any) -> Any:
    """A copy of what no layer owns; parameters stay trainable."""
    import torch

    copy = value.detach().clone()
    return torch.nn.Parameter(copy) if isinstance(value, torch.nn.Parameter) else copy


def _reads_weights(node: Any) -> bool:
    """Whether all tensors but the first are constants of the module."""
    import torch

    rest = [value for value in node.args[1:] if isinstance(value, torch.fx.Node)]
    return bool(rest) and rest[0] is node.args[1] and all(v.op == "get_attr" for v in rest)


def _values(module: Any, node: Any) -> list[Any]:
    import torch

    return [
        _attribute(module, value.target) if isinstance(value, torch.fx.Node) else value
        for value in _all_arguments(node)[1:]
    ]


def _all_arguments(node: Any) -> list[Any]:
    """Every argument by position, defaults filled in."""
    given = list(node.args)
    for argument in node.target._schema.arguments[len(given) :]:
        given.append(node.kwargs.get(argument.name, argument.default_value))
    return given


def _attribute(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module


def _free_name(weight: str, taken: dict[str, Any]) -> str:
    base = weight.removesuffix(".weight").replace(".", "_") or "layer"
    base = base if base.isidentifier() else f"layer_{base}"
    name, count = base, 1
    while name in taken:
        count += 1
        name = f"{base}_{count}"
    return name


def _call_layer(graph: Any, node: Any, name: str) -> None:
    with graph.inserting_before(node):
        call = graph.create_node("call_module", name, (node.args[0],), {}, name)
    call.meta = dict(node.meta)
    node.replace_all_uses_with(call)
    graph.erase_node(node)


def _filled(layer: Any, **tensors: Any) -> Any:
    """The layer with copies of tensors as its parameters and buffers."""
    import torch

    with torch.no_grad():
        for name, value in tensors.items():
            if value is not None:
                getattr(layer, name).copy_(value)
    return layer


def _conv(torch: Any, values: Sequence[Any]) -> Any:
    weight, bias, stride, padding, dilation, groups = values
    layer = torch.nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),
        _per_side(stride),
        padding if isinstance(padding, str) else _per_side(padding),
        _per_side(dilation),
        groups,
        bias is not None,
    )
    return _filled(layer, weight=weight, bias=bias)


def _transposed_conv(torch: Any, values: Sequence[Any]) -> Any:
    weight, bias, stride, padding, output_padding, groups, dilation = values
    layer = torch.nn.ConvTranspose2d(
        weight.shape[0],
        weight.shape[1] * groups,
        tuple(weight.shape[2:]),
        _per_side(stride),
        _per_side(padding),
        _per_side(output_padding),
        groups,
        bias is not None,
        _per_side(dilation),
    )
    return _filled(layer, weight=weight, bias=bias)


def _linear(torch: Any, values: Sequence[Any]) -> Any:
    weight, bias = values
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    return _filled(layer, weight=weight, bias=bias)


def _batch_norm(axes: int, torch: Any, values: Sequence[Any]) -> Any:
    weight, bias, mean, variance, _, momentum, eps, _ = values
    nn = torch.nn
    # One function for all; each class refuses the others' number of axes.
    kind = {4: nn.BatchNorm2d, 5: nn.BatchNorm3d}.get(axes, nn.BatchNorm1d)
    layer = kind(mean.numel(), eps, momentum, weight is not None)
    return _filled(layer, weight=weight, bias=bias, running_mean=mean, running_var=variance)


def _prelu(torch: Any, values: Sequence[Any]) -> Any:
    (weight,) = values
    return _filled(torch.nn.PReLU(weight.numel()), weight=weight)


def _per_side(value: Any) -> tuple[int, int]:
    """Two numbers of one that stands for both, or of two."""
    both = tuple(value) if isinstance(value, Sequence) else (value,)
    return (both[0], both[0]) if len(both) == 1 else (both[0], both[1])


_BATCH_NORM = "aten.batch_norm.default"
_MAKERS: dict[str, _Maker] = {
    "aten.conv2d.default": _conv,
    "aten.conv2d.padding": _conv,
    "aten.conv_transpose2d.input": _transposed_conv,
    "aten.linear.default": _linear,
    "aten.prelu.default": _prelu,
}
