"""Tells a want of memory from other failures."""

from __future__ import annotations

from saccade.errors import SaccadeError

# What PyTorch's allocators say where they raise no class of their own.
WORDS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "defaultcpuallocator",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    # What a worker process says of itself when it was ended.
    "lack of memory",
    "memoryerror",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, on the device or on the host."""
    if isinstance(error, MemoryError):
        return True
    if not isinstance(error, RuntimeError | SaccadeError):
        return False
    # torch.cuda.OutOfMemoryError is a RuntimeError that says so.
    said = str(error).casefold()
    return any(word in said for word in WORDS)


def does_not_fit(error: object, world: int = 1) -> SaccadeError:
    """The error that ends a training for want of memory.

    Args:
        error: what was said.
        world: processes that train together; only a single one halves its batch by itself.
    """
    if world > 1:
        return SaccadeError(
            f"Memory does not suffice for a process's part of a batch: {str(error)[:300]}. Train "
            "in more processes, or in one, which then halves its batch by itself; or shard the "
            "model (fsdp), or use activation checkpointing."
        )
    return SaccadeError(
        f"Memory does not suffice to train even on single samples: {str(error)[:300]}. Train on "
        "smaller images, with bf16, with activation checkpointing (`saccade train optimize` tries "
        "them), or on another device."
    )
