"""Puts the kernels in the place of a model's batch normalization, in place."""

from __future__ import annotations

import types
from collections import Counter
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from saccade.train.norms.building import kernels
from saccade.train.norms.operators import KINDS, batch_norm


def fuse_norms(model: nn.Module) -> int:
    """Let every ``nn.BatchNorm2d`` of a model normalize by the kernels; how many there are.

    A ReLU that stands behind one in an ``nn.Sequential`` is done by the same kernel. Weights and
    statistics keep their names and their values; where the kernels do not apply (evaluation, other
    kinds of numbers), the module does what it did.

    Raises:
        RuntimeFailure: the kernels cannot be compiled here.
    """
    norms = [m for m in model.modules() if type(m) is nn.BatchNorm2d]
    if norms:
        kernels()  # Now, and not in the middle of the first step.
    cut = _with_relu(model)
    for norm in norms:
        norm.forward = types.MethodType(_relu_forward if norm in cut else _forward, norm)
    return len(norms)


def _with_relu(model: nn.Module) -> set[nn.Module]:
    """Norms whose ReLU they do themselves; it is taken out of the sequence it stands in."""
    used = Counter(id(child) for m in model.modules() for child in m._modules.values())
    found: set[nn.Module] = set()
    for module in model.modules():
        # Of a class with a forward of its own nobody knows the order.
        if not isinstance(module, nn.Sequential) or type(module).forward is not _IN_ORDER:
            continue
        for name, after in pairwise(list(module._modules)):
            norm, relu = module._modules[name], module._modules[after]
            if type(norm) is not nn.BatchNorm2d or type(relu) is not nn.ReLU:
                continue
            # Elsewhere the norm has to do without, and hooks want to see what lies between.
            if used[id(norm)] == 1 and not norm._forward_hooks and not relu._forward_hooks:
                found.add(norm)
                module._modules[after] = nn.Identity()
    return found


_IN_ORDER = nn.Sequential.forward


def _forward(self: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    return _normalized(self, x, False)


def _relu_forward(self: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    return _normalized(self, x, True)


def _normalized(norm: nn.BatchNorm2d, x: torch.Tensor, relu: bool) -> torch.Tensor:
    if not _applies(norm, x):
        y = nn.BatchNorm2d.forward(norm, x)
        return functional.relu(y) if relu else y
    y, mean, var = batch_norm(x, norm.weight, norm.bias, norm.eps, relu)
    if norm.track_running_stats:
        _collect(norm, mean, var, x.numel() // x.shape[1])
    return y


def _applies(norm: nn.BatchNorm2d, x: torch.Tensor) -> bool:
    """What the kernels are for: batches in training on the CPU, with weights in fp32."""
    return (
        norm.training
        and norm.affine
        and norm.weight.dtype is torch.float32
        and x.dim() == 4
        and x.dtype in KINDS
        and x.device.type == "cpu"
        and x.numel() > x.shape[1]
    )


def _collect(norm: nn.BatchNorm2d, mean: Any, var: Any, count: int) -> None:
    """Running statistics, as PyTorch has them: the variance unbiased."""
    with torch.no_grad():
        assert norm.running_mean is not None and norm.running_var is not None
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        share: Any = norm.momentum
        if share is None:  # the mean of all batches
            share = 1.0 / norm.num_batches_tracked.to(torch.float32)
        norm.running_mean.lerp_(mean, share)
        norm.running_var.lerp_(var * (count / (count - 1)), share)
