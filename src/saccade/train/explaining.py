"""Says in whose function a step failed, and on what, in place of a bare traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from saccade.errors import SaccadeError, SpecError
from saccade.train.memory_failure import is_out_of_memory

# What was called, and how to name it.
CALLS = {
    "model": ("The job's model failed on its input", "input"),
    "loss": ("The job's loss(output, target) failed", "output"),
    "metric": ("The job's metric failed", "output"),
    "scheduler": ("The job's scheduler() failed", "the optimizer"),
    "collate": ("A batch could not be made of its samples", "samples"),
}
# Words of PyTorch's messages → what to do.
HINTS = {
    "on the same device": (
        "A tensor was made on another device: register it with register_buffer in the model, or "
        "make it with device=output.device in the loss."
    ),
    "meta": "A tensor is on the device 'meta', which holds no values; make it on a real one.",
    "should be the same": (
        "Input and weights differ in type; let the transforms return float32 images."
    ),
    "expected scalar type": "Types differ; classes have to be int64, images float32.",
    "equal size": (
        "Let the transforms bring all samples to one size, or give the job a collate(samples)."
    ),
    "out of bounds": "A class id is not below the number of classes that the model has.",
}


@contextlib.contextmanager
def explained(call: str, *values: Any) -> Iterator[None]:
    """Turn what a function of the job raises into a message that says on what it failed.

    Raises:
        SpecError: whatever it raised, except for want of memory and errors of our own.
    """
    try:
        yield
    except SaccadeError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        said, name = CALLS[call]
        got = " and ".join(map(described, values))
        first = (str(error).strip().splitlines() or [""])[0][:300]
        hint = next((text for words, text in HINTS.items() if words in str(error)), "")
        raise SpecError(
            f"{said}: {type(error).__name__}: {first}. It got {name} {got}. {hint}".rstrip()
        ) from error


def check_loss(loss: Any) -> None:
    """Whether a loss is one number with a gradient. Looks at nothing on the device.

    Raises:
        SpecError: it is not.
    """
    if not hasattr(loss, "backward"):
        raise SpecError(
            f"The job's loss(output, target) returned {described(loss)}, not a tensor. Return "
            "what torch.nn.functional gives, without .item() or float()."
        )
    if loss.dim() != 0:
        raise SpecError(
            f"The job's loss(output, target) returned {described(loss)}, not one number. Take its "
            "mean, for instance with reduction='mean'."
        )
    if not loss.requires_grad:
        raise SpecError(
            "The job's loss(output, target) has no gradient: it does not depend on the model's "
            "weights. Leave out .detach(), torch.no_grad() and argmax in model and loss, and check "
            "that the parameters have requires_grad."
        )


def described(value: Any) -> str:
    """Form of a value in a few words: ``tensor (8, 3, 64, 64) float32 on cpu``."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        kind = str(value.dtype).removeprefix("torch.")
        where = f" on {value.device}" if hasattr(value, "device") else ""
        return f"tensor {tuple(value.shape)} {kind}{where}"
    if isinstance(value, dict):
        inner = ", ".join(f"{key}: {described(item)}" for key, item in list(value.items())[:3])
        return f"dict of {inner}"
    if isinstance(value, tuple | list) and value:
        return f"{type(value).__name__} of {len(value)}, the first {described(value[0])}"
    return type(value).__name__
