"""Times the parts of a step; on a GPU by the device's own clock, without waiting for it."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

from saccade.train.output_clock import spent_s
from saccade.train.records import PARTS


class StepClock:
    """Marks where one part of a step ends and the next begins. Reads a clock, and nothing else.

    Parts that come several times in a step, when gradients are accumulated, are added up. What the
    job prints and logs meanwhile is ``logging``, in whichever part it does so.
    """

    def __init__(self) -> None:
        self._steps: list[dict[str, float]] = []
        self._lengths: list[float] = []
        self._began = self._last = self._said = 0.0
        self._now: dict[str, float] = {}

    def begin(self) -> None:
        """A step begins."""
        self._said = spent_s()
        self._began = self._last = time.perf_counter()
        self._now = dict.fromkeys(PARTS, 0.0)

    def mark(self, part: str) -> None:
        """A part ends here; what follows is of the next."""
        now, said = time.perf_counter(), spent_s()
        self._now[part] += now - self._last - (said - self._said)
        self._now["logging"] += said - self._said
        self._last, self._said = now, said

    def end(self) -> None:
        """The step ends."""
        self.mark("logging")
        self._steps.append(self._now)
        self._lengths.append(time.perf_counter() - self._began)

    def read(self) -> tuple[tuple[float, ...], dict[str, tuple[float, ...]]]:
        """Seconds of each step and of its parts since the last reading."""
        steps, lengths = self._steps, tuple(self._lengths)
        self._steps, self._lengths = [], []
        return lengths, {part: tuple(step[part] for step in steps) for part in PARTS}


class DeviceStepClock:
    """The same by CUDA events: a part lasts from when the device was done with the one before.

    ``data`` is then the time the device had nothing to do because its batch was not there, and
    ``logging`` what it waits for after the optimizer. What the job prints is the host's time: a
    device that has work does not wait for it.
    """

    def __init__(self) -> None:
        self._steps: list[list[tuple[str, Any]]] = []
        self._now: list[tuple[str, Any]] = []

    def begin(self) -> None:
        """A step begins."""
        self._now = [("", self._event())]

    def mark(self, part: str) -> None:
        """A part ends here."""
        self._now.append((part, self._event()))

    def end(self) -> None:
        """The step ends."""
        self._now.append(("logging", self._event()))
        self._steps.append(self._now)

    def read(self) -> tuple[tuple[float, ...], dict[str, tuple[float, ...]]]:
        """Seconds of each step and of its parts since the last reading; waits for the device."""
        import torch

        torch.cuda.synchronize()
        found: dict[str, list[float]] = {part: [] for part in PARTS}
        lengths = []
        for step in self._steps:
            parts = dict.fromkeys(PARTS, 0.0)
            for (_, start), (part, end) in pairwise(step):
                parts[part] += start.elapsed_time(end) / 1e3
            for part, seconds in parts.items():
                found[part].append(seconds)
            lengths.append(sum(parts.values()))
        self._steps = []
        return tuple(lengths), {part: tuple(values) for part, values in found.items()}

    @staticmethod
    def _event() -> Any:
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


class NoClock(StepClock):
    """Keeps nothing, for a whole training, whose steps are many and read by nobody."""

    def begin(self) -> None:
        """A step begins."""

    def mark(self, part: str) -> None:
        """A part ends here."""

    def end(self) -> None:
        """The step ends."""


def clock_for(device: str, timed: bool = True) -> StepClock | DeviceStepClock:
    """The clock of a device, or none."""
    if not timed:
        return NoClock()
    return DeviceStepClock() if device.startswith("cuda") else StepClock()
