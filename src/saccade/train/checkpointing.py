"""Activations are computed again in the backward pass instead of being kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def recompute_activations(model: Any) -> int:
    """Checkpoint every block of a module, in place; how many there are.

    A block is an outermost ``nn.Sequential`` with parameters. Source: Chen et al., "Training Deep
    Nets with Sublinear Memory Cost", 2016.
    """
    blocks = list(_blocks(model))
    for block in blocks:
        _checkpoint(block)
    return len(blocks)


def _blocks(module: Any) -> Iterator[Any]:
    import torch

    for child in module.children():
        if isinstance(child, torch.nn.Sequential) and len(list(child.parameters())):
            yield child
        else:
            yield from _blocks(child)


def _checkpoint(block: Any) -> None:
    from torch.utils.checkpoint import checkpoint

    forward = block.forward

    def recomputed(*inputs: Any) -> Any:
        if not block.training:
            return forward(*inputs)
        return checkpoint(forward, *inputs, use_reentrant=False)

    block.forward = recomputed
