"""int8 programs of PyTorch: their operators, and the compilation that runs them on int8 kernels.

A quantized program is a float graph with roundings in it. Run as it stands it is slower than the
float one; PyTorch's compiler, told by torchao's patterns, makes each rounding, layer and activation
one int8 kernel of oneDNN.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from saccade.errors import MissingExtraError, RuntimeFailure

EXTRA = "torch-int8"


def register_operators() -> None:
    """Make the roundings of quantized programs known to PyTorch, which a file is read with."""
    import torch.ao.quantization.fx._decomposed  # noqa: F401 - registers them


def register_kernels() -> None:
    """Tell PyTorch's compiler which patterns of a quantized program are int8 kernels.

    Raises:
        MissingExtraError: torchao is not installed.
    """
    try:
        from torchao.quantization.pt2e.quantizer import (
            x86_inductor_quantizer,  # noqa: F401 - registers them
        )
    except ImportError as error:
        raise MissingExtraError("torchao", EXTRA, "An int8 program of PyTorch") from error


def compiled_int8(
    module: Any, example: Any | None, computing: Callable[[], AbstractContextManager[Any]]
) -> Callable[[Any], Any]:
    """The module compiled with its weights as constants, which int8 kernels need.

    It is compiled here and not by the first call: whether weights are constants is a setting of
    the process, which holds for float models as well for as long as it is on.

    Args:
        module: of a quantized program.
        example: an input as the module will get it, made in inference mode as those will be.
        computing: the context that it will run in.

    Raises:
        RuntimeFailure: there is no example, because inputs have no fixed size.
        MissingExtraError: torchao is not installed.
    """
    if example is None:
        raise RuntimeFailure("an int8 program has one input size, and none was given")
    register_kernels()
    import torch
    from torch._inductor import config

    compiled: Callable[[Any], Any] = torch.compile(module, dynamic=False)
    with contextlib.ExitStack() as held:
        held.enter_context(torch.inference_mode())
        held.enter_context(config.patch(freezing=True))
        held.enter_context(computing())
        compiled(example)
    return compiled
