"""Tells a want of memory from other failures."""

from __future__ import annotations

from saccade.errors import OutOfMemory, SaccadeError

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


def part_does_not_fit(error: object, batch_size: int) -> OutOfMemory:
    """The error that ends one of several processes, whose starter then halves all their batches.

    Args:
        error: what was said.
        batch_size: samples that the process computes at once.
    """
    return OutOfMemory(
        f"Memory does not suffice for {batch_size} samples at once in each process: "
        f"{str(error)[:300]}. Train with smaller batches and more accumulation, in more processes, "
        "with the model sharded (--strategy fsdp), or with activation checkpointing.",
        batch_size,
    )


def does_not_fit(error: object) -> OutOfMemory:
    """The error that ends a training for want of memory; ``error`` is what was said."""
    return OutOfMemory(
        f"Memory does not suffice to train even on single samples: {str(error)[:300]}. Train on "
        "smaller images, with bf16, with activation checkpointing (`saccade train optimize` tries "
        "them), or on another device."
    )
