"""Activations are computed again in the backward pass instead of being kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from saccade.errors import SpecError


def recompute_activations(model: Any) -> int:
    """Checkpoint every block of a module, in place; how many there are.

    Statistics of batch normalization are collected in the first of the two passes only, so the
    training stays the same. Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost",
    2016.

    Raises:
        SpecError: the module has no blocks.
    """
    blocks = recomputable_blocks(model)
    if not blocks:
        raise SpecError(
            "The model has no blocks whose activations could be computed again. Blocks are "
            "nn.Sequential modules, or the items of an nn.ModuleList; leave checkpointing off, or "
            "group the layers."
        )
    for block in blocks:
        _checkpoint(block)
    return len(blocks)


def recomputable_blocks(model: Any) -> list[Any]:
    """Outermost ``nn.Sequential`` modules and items of lists, with weights, below the model."""
    return list(_blocks(model))


def _blocks(module: Any) -> Iterator[Any]:
    import torch

    listed = isinstance(module, torch.nn.ModuleList)
    for child in module.children():
        if (listed or isinstance(child, torch.nn.Sequential)) and _is_worth_it(child):
            yield child
        else:
            yield from _blocks(child)


def _is_worth_it(module: Any) -> bool:
    """A single layer keeps nothing but its input, which would have to be kept all the same."""
    return any(True for _ in module.children()) and any(True for _ in module.parameters())


def _checkpoint(block: Any) -> None:
    import torch
    from torch.utils.checkpoint import checkpoint

    forward = block.forward

    def both_passes() -> tuple[Any, Any]:
        return contextlib.nullcontext(), statistics_kept(block)

    def recomputed(*inputs: Any) -> Any:
        if not block.training:
            return forward(*inputs)
        if torch.compiler.is_compiling():  # which moves statistics out of what it computes again
            return checkpoint(forward, *inputs, use_reentrant=False)
        return checkpoint(forward, *inputs, use_reentrant=False, context_fn=both_passes)

    block.forward = recomputed


@contextlib.contextmanager
def statistics_kept(module: Any) -> Iterator[None]:
    """Batch normalization inside normalizes as ever and collects no statistics meanwhile."""
    import torch

    kind = torch.nn.modules.batchnorm._BatchNorm
    norms = [m for m in module.modules() if isinstance(m, kind) and m.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        # Counted on a copy: None would average over all batches, by the number of them.
        norm.momentum, norm.num_batches_tracked = 0.0, norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked
