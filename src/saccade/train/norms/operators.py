"""The kernels as operators of PyTorch: with gradients, and known to ``torch.compile``."""

from __future__ import annotations

import ctypes
from typing import Any

import torch

from saccade.train.norms.building import kernels

KINDS = (torch.float32, torch.bfloat16)


def _normalize(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float, relu: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Normalized over a batch, scaled and shifted, with negative values cut where ``relu`` is set.

    Args:
        x: ``(N, C, H, W)`` float32 or bfloat16 on the CPU, in either layout.
        weight: ``(C,)`` float32.
        bias: ``(C,)`` float32.
        eps: added to the variance.
        relu: cut what is below 0.

    Returns:
        The result, like ``x``, and the mean and biased variance of each channel, ``(C,)`` float32.
    """
    x, last = _laid_out(x)
    y = torch.empty_like(x)
    mean, var = torch.empty_like(weight), torch.empty_like(weight)
    kernels().saccade_norm_forward(
        *_shape(x, last, relu, eps), *map(_at, (x, y, weight, bias, mean, var))
    )
    return y, mean, var


def _normalized_like(x: torch.Tensor, weight: torch.Tensor, *_: Any) -> tuple[Any, ...]:
    x = _laid_out(x)[0]
    return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)


def _gradients(
    dy: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    mean: torch.Tensor,
    var: torch.Tensor,
    eps: float,
    relu: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of `_normalize` by ``x``, ``weight`` and ``bias``, given that of its result.

    Args:
        dy: ``(N, C, H, W)``, of the kind of ``x``.
        x: as it was given, and so on.
        weight: see `_normalize`.
        bias: see `_normalize`.
        mean: as it was returned.
        var: as it was returned.
        eps: see `_normalize`.
        relu: see `_normalize`.
    """
    x, last = _laid_out(x)
    dy = dy.to(x.dtype).contiguous(memory_format=_format(last))
    dx, dweight, dbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
    kernels().saccade_norm_backward(
        *_shape(x, last, relu, eps),
        *map(_at, (dy, x, dx, weight, bias, mean, var, dweight, dbias)),
    )
    return dx, dweight, dbias


def _gradients_like(
    dy: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *_: Any
) -> tuple[Any, ...]:
    x = _laid_out(x)[0]
    return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    x, weight, bias, ctx.eps, ctx.relu = inputs
    ctx.save_for_backward(x, weight, bias, *output[1:])


def _backward(ctx: Any, dy: torch.Tensor, *_of_statistics: Any) -> tuple[Any, ...]:
    gradients = batch_norm_backward(dy, *ctx.saved_tensors, ctx.eps, ctx.relu)
    return *gradients, None, None


def _laid_out(x: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """``x`` in one of the two layouts, and whether channels are last."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return x.contiguous(memory_format=_format(last)), last


def _format(last: bool) -> torch.memory_format:
    return torch.channels_last if last else torch.contiguous_format


def _shape(x: torch.Tensor, last: bool, relu: bool, eps: float) -> tuple[Any, ...]:
    batch, channels, height, width = x.shape
    sizes = (batch, channels, height * width)
    return (
        int(x.dtype == torch.bfloat16),
        int(last),
        int(relu),
        torch.get_num_threads(),
        *map(ctypes.c_int64, sizes),
        ctypes.c_float(eps),
    )


def _at(tensor: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


batch_norm = torch.library.custom_op("saccade::batch_norm", _normalize, mutates_args=())
batch_norm.register_fake(_normalized_like)
batch_norm.register_autograd(_backward, setup_context=_keep)
batch_norm_backward = torch.library.custom_op(
    "saccade::batch_norm_backward", _gradients, mutates_args=()
)
batch_norm_backward.register_fake(_gradients_like)
