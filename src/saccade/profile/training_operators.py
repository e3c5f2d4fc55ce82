"""Operators of a training step, from ``torch.profiler``."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from saccade.profile.records import Span
from saccade.profile.torch_operators import kind_of
from saccade.runtimes.contract import OperatorTime
from saccade.train.loop import TrainingLoop

# Names the step that the trace shows, and what is no operator but a frame around some.
STEP = "saccade step"
FRAMES = ("ProfilerStep", STEP, "Optimizer.", "autograd::engine", "cuda")
MAX_EVENTS = 4000
# Of a tensor's element where the profiler tells its shape and not its type.
ELEMENT_BYTES = 4


@dataclass(frozen=True)
class OperatorPass:
    """What the pass over operators found.

    Attributes:
        operators: of one step, slowest first.
        spans: of the last step, seconds since it began.
        launches: operators (on a GPU kernels) of one step.
        share: share 0-1 of profiled steps in which any of them ran.
        device_ms: the GPU runs kernels in one step; None without one.
        overhead: share by which profiled steps were slower.
    """

    operators: tuple[OperatorTime, ...]
    spans: tuple[Span, ...]
    launches: float
    share: float
    device_ms: float | None
    overhead: float


def watch_operators(loop: TrainingLoop, steps: int) -> OperatorPass:
    """Take steps, plain and profiled; the profiler's own slowdown is stated, not subtracted."""
    from torch.profiler import ProfilerActivity, profile, record_function

    cuda = loop.config.compute.device.startswith("cuda")
    loop.clock.read()
    plain_s = _steps(loop, steps)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities, record_shapes=True, acc_events=True) as profiler:
        for _ in range(steps):
            with record_function(STEP):
                loop.step()
        _wait(cuda)
    profiled_s = list(loop.clock.read()[0])
    events = list(profiler.events())
    operators, launches = operator_times(events, steps, on_device=cuda)
    return OperatorPass(
        operators=operators,
        spans=last_step(events),
        launches=launches,
        share=min(1.0, sum(op.wall_ms for op in operators) / 1e3 / statistics.fmean(profiled_s)),
        device_ms=sum(op.wall_ms for op in operators) if cuda else None,
        overhead=statistics.median(profiled_s) / statistics.median(plain_s) - 1,
    )


def _steps(loop: TrainingLoop, steps: int) -> list[float]:
    for _ in range(steps):
        loop.step()
    return list(loop.clock.read()[0])


def _wait(cuda: bool) -> None:
    import torch

    if cuda:
        torch.cuda.synchronize()


def operator_times(
    events: Iterable[Any], steps: int, on_device: bool
) -> tuple[tuple[OperatorTime, ...], float]:
    """Mean milliseconds of each operator in a step, slowest first, and how many there are.

    Args:
        events: ``profiler.events()``: PyTorch's ``FunctionEvent``.
        steps: that were profiled.
        on_device: count the GPU's kernels instead of the calls into PyTorch.
    """
    times: dict[str, float] = defaultdict(float)
    moved: dict[str, float] = defaultdict(float)
    launches = 0
    for event in events:
        if _on_device(event) != on_device or event.name.startswith(FRAMES):
            continue
        time_us = event.time_range.elapsed_us() if on_device else event.self_cpu_time_total
        # Calls that only pass on to another are counted where the work is done.
        if on_device or not _passes_on(event):
            launches += 1
            moved[event.name] += _bytes(event)
        times[event.name] += time_us
    found = [
        OperatorTime(
            name, kind_of(name), time_us / 1e3 / steps, kernel=name, bytes=moved[name] / steps
        )
        for name, time_us in times.items()
        if time_us > 0
    ]
    return tuple(sorted(found, key=lambda op: -op.wall_ms)), launches / steps


def _on_device(event: Any) -> bool:
    return "CUDA" in str(event.device_type)


def _passes_on(event: Any) -> bool:
    """Whether most of its time is that of other calls it makes."""
    return bool(2 * event.self_cpu_time_total < event.cpu_time_total)


def _bytes(event: Any) -> float:
    """Read and written, as far as the shapes of the inputs tell: they, and one more for output."""
    sizes = [math.prod(shape) for shape in event.input_shapes or () if _is_shape(shape)]
    return ELEMENT_BYTES * float(sum(sizes) + max(sizes, default=0))


def _is_shape(shape: Any) -> bool:
    return bool(shape) and all(isinstance(side, int) for side in shape)


def last_step(events: Iterable[Any]) -> tuple[Span, ...]:
    """Spans of the last step, the longest where there are too many for a trace."""
    everything = list(events)
    frames = [event for event in everything if event.name == STEP and not _on_device(event)]
    if not frames:
        return ()
    start, end = frames[-1].time_range.start, frames[-1].time_range.end
    chosen = [
        event
        for event in everything
        if start <= event.time_range.start <= end and not event.name.startswith(STEP)
    ]
    chosen = sorted(chosen, key=lambda event: -event.time_range.elapsed_us())[:MAX_EVENTS]
    spans = [
        Span(
            event.name,
            "GPU kernels" if _on_device(event) else f"thread {event.thread}",
            (event.time_range.start - start) / 1e6,
            (event.time_range.end - start) / 1e6,
            kind_of(event.name),
        )
        for event in chosen
    ]
    return tuple(sorted(spans, key=lambda span: span.start_s))
