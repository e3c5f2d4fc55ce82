"""The largest batch that fits, found by trying: each try in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from saccade.errors import SaccadeError
from saccade.train.config import ScaleSettings, TrainingConfig
from saccade.train.memory_failure import is_out_of_memory

# Two steps: what the optimizer keeps is there only after the first.
STEPS = 2
TIMEOUT_S = 300.0


def largest_that_fits(sizes: Sequence[int], fits: Callable[[int], bool]) -> int | None:
    """The largest of some sizes that fits; None where not even the smallest does.

    Sizes are tried with doubled strides until one does not fit, then by bisection between the
    last that did and the first that did not, so that few tries are far too large.

    Args:
        sizes: rising. Where one does not fit, no larger one does.
        fits: tries one.
    """
    best, stride, failed = -1, 1, len(sizes)
    while best + 1 < failed:
        place = best + stride
        if place >= failed:
            place = (best + failed) // 2 if best + 1 < failed - 1 else failed - 1
        if fits(sizes[place]):
            best, stride = place, stride * 2
        else:
            failed, stride = place, len(sizes)
    return sizes[best] if best >= 0 else None


def fits_in_memory(config: TrainingConfig, memory_limit_mb: float | None = None) -> bool:
    """Whether two steps of a configuration can be taken, tried in a worker process.

    Args:
        config: what is tried, by one process.
        memory_limit_mb: resident memory at which the worker is ended; by default most of what is
            free.

    Raises:
        SaccadeError: it failed for another reason than memory.
    """
    from saccade.optimize.worker import Worker
    from saccade.train.subject import SUBJECT

    alone = replace(config, scale=ScaleSettings()).with_loader(workers=0)
    # Compiling takes minutes for each size and little memory; eager execution needs no less.
    eager = alone.with_compute(compile="")
    try:
        with Worker(
            SUBJECT, (eager,), timeout_s=TIMEOUT_S, memory_limit_mb=memory_limit_mb
        ) as worker:
            worker.call("hold_batch", timeout_s=TIMEOUT_S)
            worker.call("block", STEPS, timeout_s=TIMEOUT_S)
    except SaccadeError as error:
        if is_out_of_memory(error):
            return False
        raise
    return True
