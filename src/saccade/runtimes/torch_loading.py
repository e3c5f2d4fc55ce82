"""Exported PyTorch programs made ready to be called: on a device, laid out, traced or compiled."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from saccade.errors import MissingExtraError, ModelError, RuntimeFailure, first_line
from saccade.models.description import Preprocessing
from saccade.models.torch_nms import Suppression, read_suppressing
from saccade.runtimes.contract import SessionRequest
from saccade.runtimes.torch_int8 import register_operators

FORMATS = ("torch_export", "torchscript")
Forward = Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class Loaded:
    """A program as a module.

    Attributes:
        module: in evaluation mode, on its device.
        suppression: NMS that comes behind it, where the file says so.
    """

    module: Any
    suppression: Suppression | None


def import_torch(purpose: str) -> Any:
    """The package.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "torch", purpose) from error
    return torch


def load(request: SessionRequest, device: str = "cpu") -> Loaded:
    """The request's program, its weights and constants on a device, laid out as it says.

    Raises:
        RuntimeFailure: it is of another format, or cannot be read or moved.
        MissingExtraError: NMS comes behind it, and torchvision is not installed.
    """
    if request.model.format not in FORMATS:
        raise RuntimeFailure(
            f"PyTorch cannot run a model in {request.model.format} format; it takes programs "
            "saved by torch.export (.pt2), and TorchScript that saccade exported (.torchscript)."
        )
    if request.model.format == "torchscript":
        return Loaded(_script(request, device), None)
    if request.model.quantized:
        if device != "cpu":
            raise RuntimeFailure("PyTorch's int8 programs run on CPUs; use the runtime 'torch'.")
        register_operators()
    try:
        program, suppression = read_suppressing(request.model.path)
    except ModelError as error:
        raise RuntimeFailure(str(error)) from error
    if device != "cpu":
        program = _moved(program, device)
    options = request.options
    # Guards look at values, which a trace would take for part of the model.
    module = program.module(check_guards=options.graph_level == "default")
    if options.channels_last:
        import torch

        module = module.to(memory_format=torch.channels_last)
    return Loaded(module, suppression)


def _script(request: SessionRequest, device: str) -> Any:
    """A TorchScript file as a module."""
    import torch

    try:
        module = torch.jit.load(request.model.path, map_location=device).eval()
    except Exception as error:
        raise RuntimeFailure(f"PyTorch cannot load TorchScript: {first_line(error)}") from error
    layout = torch.channels_last if request.options.channels_last else torch.preserve_format
    return module.to(memory_format=layout)


def _moved(program: Any, device: str) -> Any:
    """The program on another device, the devices that its operators name included."""
    from torch.export.passes import move_to_device_pass

    try:
        return move_to_device_pass(program, device)
    except Exception as error:
        raise RuntimeFailure(
            f"PyTorch cannot move the program to '{device}': {first_line(error)}"
        ) from error


def optimized(
    module: Any,
    level: str,
    example: Any | None,
    computing: Callable[[], AbstractContextManager[Any]],
) -> Forward:
    """The module as a graph level asks for it.

    Args:
        module: what to call.
        level: ``"default"``, ``"torchscript"`` or ``"compile"``.
        example: an input as the module gets it; a trace is made with it.
        computing: the context that it will run in; a trace holds its casts.

    Raises:
        RuntimeFailure: the level needs an example, or is not known.
    """
    if level not in _LEVELS:
        raise RuntimeFailure(f"unknown; known: {', '.join(_LEVELS)}")
    return _LEVELS[level](module, example, computing)


def _eager(module: Forward, example: Any, computing: Any) -> Forward:
    return module


def _compiled(module: Any, example: Any, computing: Any) -> Forward:
    import torch

    compiled: Forward = torch.compile(module)
    return compiled


def _frozen_trace(module: Any, example: Any, computing: Any) -> Forward:
    """A trace whose weights are constants, which lets PyTorch fold and fuse."""
    import torch

    if example is None:
        raise RuntimeFailure("a trace is made for one input size, and none was given")
    with torch.inference_mode(), computing(), warnings.catch_warnings():
        # The program is traced for its one shape, which is what the warnings are about.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module, example, check_trace=False)
        frozen: Forward = torch.jit.optimize_for_inference(torch.jit.freeze(traced.eval()))
    return frozen


_LEVELS = {"default": _eager, "torchscript": _frozen_trace, "compile": _compiled}
GRAPH_LEVELS = tuple(_LEVELS)


class Preparation:
    """From the tensor that a session takes to the one that its module takes, on the device.

    Args:
        pre: where given, ``(1, H, W, 3)`` uint8 in the model's channel order come in; else
            ``(1, 3, H, W)`` float32.
        channels_last: lay the channels of a pixel side by side.
        device: where images will be.
    """

    def __init__(self, pre: Preprocessing | None, channels_last: bool, device: str = "cpu") -> None:
        import torch

        self._pre = pre
        self._layout = torch.channels_last if channels_last else None
        # Made once: a tensor made of numbers is copied to a GPU, which a CUDA graph cannot record.
        self._affine = [
            torch.tensor(values, dtype=torch.float32, device=device).view(1, 3, 1, 1)
            for values in ((pre.mean, pre.std) if pre is not None else ())
        ]

    def __call__(self, image: Any) -> Any:
        """``(1, 3, H, W)`` float32."""
        if self._pre is not None:
            mean, std = self._affine
            image = (image.permute(0, 3, 1, 2).float() * self._pre.scale - mean) / std
        return image if self._layout is None else image.contiguous(memory_format=self._layout)
