"""Steps of a training as spans: its parts, its loader's workers, and what the machine did."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from saccade.profile.records import ResourceSample, Span
from saccade.profile.resources import ResourceSampler
from saccade.train.loop import TrainingLoop
from saccade.train.machine import gpu_samples
from saccade.train.samples import Loaded

LOOP_THREAD = "training loop"
# The part that follows a part, where it is always the same.
NEXT = {"data": "copy", "copy": "forward", "forward": "loss", "loss": "backward"}


@dataclass(frozen=True)
class StepTimeline:
    """Some steps, watched.

    Attributes:
        spans: parts of steps and batches of loader workers, on one clock.
        resources: of the training process and the machine, on the same clock.
        gpu: seconds on that clock, and share 0-1 that the GPU was busy; empty without one.
    """

    spans: tuple[Span, ...]
    resources: tuple[ResourceSample, ...]
    gpu: tuple[tuple[float, float], ...] = ()


class SpanClock:
    """Stands in for the loop's clock and remembers when each part began and ended.

    On a GPU these are the times at which work was handed over; kernels are in the operators.

    Args:
        clock: the loop's own, which goes on being told.
        nvtx: name the parts for Nsight Systems as well.
        accumulation: backward passes of a step, after which comes the optimizer.
    """

    def __init__(self, clock: Any, nvtx: bool, accumulation: int) -> None:
        self._clock, self._nvtx, self._accumulation = clock, nvtx, accumulation
        self._last = 0.0
        self._step, self._passes = -1, 0
        self.spans: list[Span] = []

    def begin(self) -> None:
        """A step begins."""
        self._clock.begin()
        self._step, self._passes = self._step + 1, 0
        self._push("data")
        self._last = time.perf_counter()

    def mark(self, part: str) -> None:
        """A part ends here."""
        self._clock.mark(part)
        self._note(part)
        self._passes += part == "backward"
        self._push(NEXT.get(part) or self._after(part))

    def end(self) -> None:
        """The step ends."""
        self._clock.end()
        self._note("logging")

    def read(self) -> Any:
        """See the loop's own clock."""
        return self._clock.read()

    def _after(self, part: str) -> str:
        if part == "backward":
            return "optimizer" if self._passes == self._accumulation else "data"
        return "logging"

    def _note(self, part: str) -> None:
        now = time.perf_counter()
        self.spans.append(Span(part, LOOP_THREAD, self._last, now, "step", self._step))
        self._last = now
        if self._nvtx:
            import torch

            torch.cuda.nvtx.range_pop()

    def _push(self, part: str) -> None:
        if self._nvtx:
            import torch

            torch.cuda.nvtx.range_push(part)


def watch_timeline(loop: TrainingLoop, steps: int, nvtx: bool = False) -> StepTimeline:
    """Take steps and note what happened when; NVTX ranges need a GPU."""
    began = time.perf_counter()
    with _clock_replaced(loop, nvtx) as clock, _batches_noted(loop) as workers:
        with ResourceSampler() as sampler:
            for _ in range(steps):
                loop.step()
            loop.clock.read()  # waits for the device
        gpu = _gpu_since(loop.config.compute.device, began)
    return StepTimeline((*clock.spans, *workers), sampler.samples, gpu)


def _gpu_since(device: str, began_s: float) -> tuple[tuple[float, float], ...]:
    """The driver's samples since a moment, on the clock of the spans."""
    offset_s = time.time() - time.perf_counter()
    samples = gpu_samples(device, int((began_s + offset_s) * 1e6))
    return tuple((stamp_us / 1e6 - offset_s, share) for stamp_us, share in samples)


@contextmanager
def _clock_replaced(loop: TrainingLoop, nvtx: bool) -> Iterator[SpanClock]:
    original = loop.clock
    clock = SpanClock(original, nvtx, loop.config.batch.accumulation)
    loop.clock = clock  # type: ignore[assignment]
    try:
        yield clock
    finally:
        loop.clock = original


@contextmanager
def _batches_noted(loop: TrainingLoop) -> Iterator[list[Span]]:
    """Spans of the batches that loader workers made, where the loader says when."""
    spans: list[Span] = []

    def note(batch: Loaded) -> None:
        if batch.made is None:
            return
        process, began, ended = batch.made
        times = {name: round(1e3 * seconds, 3) for name, seconds in vars(batch.times).items()}
        details = {name.replace("_s", "_ms"): value for name, value in times.items()}
        name = f"loader {process}"
        spans.append(Span("batch", name, began, ended, "loader", loop.step_number, details))

    loop.observe = note
    try:
        yield spans
    finally:
        loop.observe = None
