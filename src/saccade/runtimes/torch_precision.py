"""Half precision of PyTorch modules: autocast, and weights that are stored as it needs them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from saccade.errors import RuntimeFailure
from saccade.pipeline.config import Precision

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16")
# Operators that autocast runs in half precision whatever they are given, by their names in graphs.
_CAST = ("conv1d", "conv2d", "conv3d", "conv_transpose2d", "linear", "addmm", "mm", "bmm", "matmul")


def half_of(precision: str) -> Any | None:
    """The dtype of a half precision, None for fp32.

    Raises:
        RuntimeFailure: there is no such precision.
    """
    import torch

    known = dict(zip(PRECISIONS, (None, torch.float16, torch.bfloat16), strict=True))
    if precision not in known:
        raise RuntimeFailure(
            f"PyTorch has no precision '{precision}' on GPUs; known: {', '.join(PRECISIONS)}."
        )
    return known[precision]


def autocasting(device: str, half: Any | None) -> Callable[[], AbstractContextManager[Any]]:
    """Makes the context in which matrix operators run in ``half``, the others where they can.

    Boxes and scores that are computed from them in float32 stay float32: in fp16, coordinates
    above 512 would be rounded to half pixels.
    """
    if half is None:
        return contextlib.nullcontext
    import torch

    # Cached casts outlive a trace or a recording and would be baked into it.
    return lambda: torch.autocast(device, half, cache_enabled=False)


def store_halved(module: Any, half: Any) -> None:
    """Store as ``half`` the weights that only matrix operators read, in place.

    Autocast would convert them in every inference. Checks of a program's own dtypes, which
    autocast changes, are removed.

    Args:
        module: the graph module of an exported program.
        half: ``torch.float16`` or ``torch.bfloat16``.
    """
    import torch

    checks = torch.ops.aten._assert_tensor_metadata.default
    for node in [node for node in module.graph.nodes if node.target is checks]:
        module.graph.erase_node(node)
    module.recompile()
    for name, readers in _readers(module.graph).items():
        if not all(_is_cast(node) for node in readers):
            continue
        owner, _, leaf = name.rpartition(".")
        weight = getattr(module.get_submodule(owner), leaf)
        if isinstance(weight, torch.nn.Parameter) and weight.dtype == torch.float32:
            weight.data = weight.data.to(half)


def _readers(graph: Any) -> dict[str, list[Any]]:
    """Nodes that read each attribute, by the attribute's name; the same may be fetched twice."""
    found: dict[str, list[Any]] = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            found.setdefault(node.target, []).extend(node.users)
    return found


def _is_cast(node: Any) -> bool:
    namespace, _, name = str(node.target).partition(".")
    return node.op == "call_function" and namespace == "aten" and name.split(".")[0] in _CAST
