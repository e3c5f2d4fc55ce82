"""A module that was trained with NNCF's quantizers, as ONNX for ONNX Runtime.

NNCF's quantizers become PyTorch's own operators for rounding, which PyTorch exports as
QuantizeLinear and DequantizeLinear. NNCF has a function for the first step (``nncf.strip``), but
it needs torchao, and leaves weights unclipped whose range is narrower than int8's.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import onnx

from saccade.errors import RuntimeFailure, first_line
from saccade.models.traced_onnx import traced_onnx
from saccade.optimize.quantization.ort_form import for_onnxruntime


def write_qdq(module: Any, example: Any, name: str, free: bool, target: Path) -> None:
    """Save the trained model as ONNX that rounds, whole or not at all.

    Args:
        module: with NNCF's quantizers.
        example: ``(1, 3, H, W)`` float32.
        name: of the input.
        free: whether every height and width is taken.
        target: the ``.onnx`` file.

    Raises:
        RuntimeFailure: PyTorch cannot export it, or ONNX Runtime cannot take it.
    """
    try:
        content = traced_onnx(with_torch_rounding(module), example, name, free)
    except Exception as error:
        raise RuntimeFailure(
            f"PyTorch could not export the trained model to ONNX: {first_line(error)}"
        ) from error
    made = for_onnxruntime(onnx.load_from_string(content))
    partial = target.with_name("partial-" + target.name)
    onnx.save(made, str(partial))
    partial.replace(target)


def with_torch_rounding(module: Any) -> Any:
    """A copy, in ``eval`` mode, whose NNCF quantizers are PyTorch's rounding operators."""
    from nncf.torch.function_hook.wrapper import get_hook_storage
    from nncf.torch.quantization.layers import BaseQuantizer

    changed = copy.deepcopy(module).eval()
    storage = get_hook_storage(changed)
    for name, hook in list(storage.named_hooks()):
        if isinstance(hook, BaseQuantizer):
            storage.set_submodule(name, _rounding(hook))
    return changed


def _rounding(quantizer: Any) -> Any:
    """One quantizer's rounding; ends are clipped first where its range is narrower than 8 bits'."""
    import torch

    quantizer.set_levels()
    with torch.no_grad():
        least, _, scale, zero = quantizer.get_parameters_for_torch_fq()
        low, high = (end.detach().clone() for end in quantizer.get_input_low_input_high())
    # Exporters know the full 8 bits only; clipping makes sure that no more are used.
    levels = (-128, 127) if least < 0 else (0, 255)
    narrow = quantizer.narrow_range or quantizer.is_half_range
    axis = max(range(low.ndim), key=lambda at: low.shape[at]) if low.numel() > 1 else None

    class Rounding(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("low", low)
            self.register_buffer("high", high)
            self.register_buffer("scale", scale.detach().clone())
            self.register_buffer("zero", zero.detach().clone())

        def forward(self, value: Any) -> Any:
            if narrow:
                value = torch.maximum(torch.minimum(value, self.high), self.low)
            if axis is None:
                step, middle = float(self.scale), int(self.zero)
                return torch.fake_quantize_per_tensor_affine(value, step, middle, *levels)
            return torch.fake_quantize_per_channel_affine(
                value, self.scale, self.zero, axis, *levels
            )

    return Rounding()
