"""Memory of a training step by category."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from saccade.train.computing import precision
from saccade.train.loop import TrainingLoop


def memory_by_category(loop: TrainingLoop) -> dict[str, float]:
    """Parameters, gradients, optimizer state, activations and batch, 10^6 bytes.

    Activations are what autograd keeps from the forward for the backward pass, seen through
    saved-tensor hooks on the module as it is, not compiled: compiled code may keep less.
    """
    import torch

    if loop.last_batch is None:
        loop.step()
    inputs, target = loop.last_batch
    parameters = [*loop.model.parameters(), *loop.model.buffers()]
    known = {_key(tensor) for tensor in (*parameters, *_tensors((inputs, target)))}
    kept: dict[Any, int] = {}

    def keep(tensor: Any) -> Any:
        if _key(tensor) not in known:
            kept[_key(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        precision(loop.config.compute),
    ):
        loss = loop.job.loss(loop.model(inputs), target)
    loss.backward()
    gradients = [p.grad for p in loop.model.parameters() if p.grad is not None]
    found = {
        "parameters": _mb(parameters),
        "gradients": _mb(gradients),
        "optimizer": _mb(_tensors(loop.optimizer.state)),
        "activations": sum(kept.values()) / 1e6,
        "batch": _mb(_tensors((inputs, target))),
    }
    loop.optimizer.zero_grad(set_to_none=True)
    return found


def _key(tensor: Any) -> tuple[Any, int]:
    """One for all tensors that share memory."""
    return tensor.device, tensor.untyped_storage().data_ptr()


def _mb(tensors: Iterable[Any]) -> float:
    storages = {_key(tensor): tensor.untyped_storage().nbytes() for tensor in tensors}
    return float(sum(storages.values())) / 1e6


def _tensors(value: Any) -> list[Any]:
    """All tensors in nested containers."""
    import torch

    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return []
    return [tensor for item in value for tensor in _tensors(item)]
