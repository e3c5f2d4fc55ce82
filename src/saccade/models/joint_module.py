"""Two PyTorch networks as one with a common backbone.

The backbone is found by structure, not by name: both graphs are followed from the image, and a
layer of the second is that of the first that is of the same kind and size and reads the same
values. Where the networks part, the heads begin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saccade.errors import ModelError

SECOND = "second_"


@dataclass(frozen=True, eq=False)
class Overlap:
    """What two networks have in common.

    Attributes:
        nodes: node of the second → node of the first that does the same.
        layers: name of the second's layer → name of the first's.
        equal: whether the weights of all common layers are equal.
        work: share of the second's multiplications that lie in common layers, 0-1.
    """

    nodes: Mapping[Any, Any]
    layers: Mapping[str, str]
    equal: bool
    work: float


def overlap(first: Any, second: Any) -> Overlap:
    """What two modules made by `saccade.models.torch_layers.with_layers` have in common."""
    nodes: dict[Any, Any] = {}
    layers: dict[str, str] = {}
    taken: set[Any] = set()
    mine = list(first.graph.nodes)
    for node in second.graph.nodes:
        twin = next(
            (n for n in mine if n not in taken and _same(first, n, second, node, nodes, layers)),
            None,
        )
        if twin is None or node.op == "output":
            continue
        nodes[node] = twin
        taken.add(twin)
        if node.op == "call_module":
            layers[node.target] = twin.target
    _give_back_heads(first, second, nodes)
    layers = {b.target: a.target for b, a in nodes.items() if b.op == "call_module"}
    equal = all(_equal(first.get_submodule(a), second.get_submodule(b)) for b, a in layers.items())
    return Overlap(nodes, layers, equal, _work_share(second, nodes))


def _give_back_heads(first: Any, second: Any, nodes: dict[Any, Any]) -> None:
    """Two networks of one architecture part at their last layers at the latest.

    Those are all that tells two answers apart, unless they are equal and so are the answers.
    """
    (output,) = (node for node in second.graph.nodes if node.op == "output")
    heads, queue = set(), list(output.all_input_nodes)
    while queue:
        node = queue.pop()
        if node.op != "call_module" or not list(second.get_submodule(node.target).parameters()):
            queue += node.all_input_nodes
        elif node in nodes and not _equal(
            first.get_submodule(nodes[node].target), second.get_submodule(node.target)
        ):
            heads.add(node)
    for node in list(nodes):  # in the order of the graph, so that what follows a head follows
        if node in heads or any(source in heads for source in node.all_input_nodes):
            heads.add(node)
            del nodes[node]


def _same(
    first: Any, mine: Any, second: Any, theirs: Any, nodes: Mapping[Any, Any], layers: Any
) -> bool:
    """Whether two nodes do the same to the same values."""
    if mine.op != theirs.op or mine.op == "output":
        return False
    if mine.op == "placeholder":
        return True
    if mine.op == "get_attr":
        return _same_constant(_at(first, mine.target), _at(second, theirs.target))
    if mine.op == "call_module":
        # A layer that is used twice stays one layer, in both.
        if layers.get(theirs.target, mine.target) != mine.target:
            return False
        if not _alike(first.get_submodule(mine.target), second.get_submodule(theirs.target)):
            return False
    elif mine.target != theirs.target:
        return False
    return bool(_mapped(theirs.args, nodes) == mine.args) and bool(
        _mapped(theirs.kwargs, nodes) == mine.kwargs
    )


def _mapped(value: Any, nodes: Mapping[Any, Any]) -> Any:
    """Arguments of the second's node in terms of the first's nodes."""
    import torch

    return torch.fx.node.map_arg(value, lambda node: nodes.get(node, node))


def _alike(first: Any, second: Any) -> bool:
    """Whether two layers are of one kind and size."""
    shapes = [{k: tuple(v.shape) for k, v in m.state_dict().items()} for m in (first, second)]
    # A layer says what it was made with.
    return type(first) is type(second) and repr(first) == repr(second) and shapes[0] == shapes[1]


def _equal(first: Any, second: Any) -> bool:
    import torch

    mine, theirs = first.state_dict(), second.state_dict()
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


def _same_constant(first: Any, second: Any) -> bool:
    import torch

    return first.shape == second.shape and bool(torch.equal(first, second))


def _at(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module


def _work_share(module: Any, common: Mapping[Any, Any]) -> float:
    work = {n: _multiplications(module, n) for n in module.graph.nodes if n.op == "call_module"}
    total = sum(work.values())
    return sum(value for node, value in work.items() if node in common) / total if total else 0.0


def _multiplications(module: Any, node: Any) -> float:
    """Of one layer, from the shape of its output that the export has left in the graph."""
    weight = getattr(module.get_submodule(node.target), "weight", None)
    value = node.meta.get("val")
    if weight is None or weight.ndim < 2 or value is None:
        return 0.0
    positions = math.prod(int(side) for side in value.shape[2:]) if value.ndim == 4 else 1
    return float(positions * weight.numel())


def joined(first: Any, second: Any, common: Overlap) -> Any:
    """A module that answers as both, with the first's layers where they are common.

    Args:
        first: with layers.
        second: with layers; what is not common is copied under another name.
        common: from `overlap`; with nothing in it, only the image is.

    Returns:
        A ``torch.fx.GraphModule`` in evaluation mode. Its outputs are those of the first, then
        those of the second, flat.

    Raises:
        ModelError: a module has other than one input.
    """
    import copy

    import torch
    from torch.utils import _pytree

    for module in (first, second):
        if sum(node.op == "placeholder" for node in module.graph.nodes) != 1:
            raise ModelError("A network with one image input was expected.")
    owned: dict[str, Any] = {}
    graph = torch.fx.Graph()
    made: dict[Any, Any] = {}
    outputs: list[Any] = []
    for node in first.graph.nodes:
        if node.op == "output":
            outputs += _pytree.tree_leaves(_to(node.args[0], made))
            continue
        made[node] = graph.node_copy(node, lambda n: made[n])
        if node.op in ("call_module", "get_attr"):
            owned[node.target] = copy.deepcopy(_at(first, node.target))
    image = next(node for node in first.graph.nodes if node.op == "placeholder")
    for node in second.graph.nodes:
        if node.op == "output":
            outputs += _pytree.tree_leaves(_to(node.args[0], made))
        elif node.op == "placeholder":
            made[node] = made[image]
        elif node in common.nodes:
            made[node] = made[common.nodes[node]]
        else:
            made[node] = _copied(graph, node, made, second, owned)
    graph.output(tuple(outputs))
    graph.lint()
    return torch.fx.GraphModule(owned, graph).eval()


def _copied(graph: Any, node: Any, made: Any, module: Any, owned: dict[str, Any]) -> Any:
    """A node of the second, reading its own weights under another name."""
    import copy

    copied = graph.node_copy(node, lambda n: made[n])
    if node.op in ("call_module", "get_attr"):
        name = SECOND + node.target.replace(".", "_")
        copied.target = name
        owned[name] = copy.deepcopy(_at(module, node.target))
    return copied


def _to(value: Any, made: Mapping[Any, Any]) -> Any:
    import torch

    return torch.fx.node.map_arg(value, lambda node: made[node])
