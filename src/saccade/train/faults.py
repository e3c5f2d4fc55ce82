"""What page faults cost a training's steps. Pure."""

from __future__ import annotations

from saccade.train.records import TrainingBlock

# A fault that clears a page of 4 KiB takes 0.5 to 2.5 microseconds, more in a virtual machine. What
# the kernel took beyond this it took for something else.
MOST_S = 5e-6


def faulting_s(block: TrainingBlock) -> float:
    """CPU seconds of a step, at most, that the kernel spent on providing pages.

    On a cached batch nothing is read, so that hardly anything else calls the kernel.
    """
    steps = max(1, len(block.step_s))
    return min(block.kernel_s, MOST_S * block.page_faults) / steps
