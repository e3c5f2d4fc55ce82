"""Watches the losses of a training without waiting for the device at every step.

Losses stay on the device until they are due to be read, all at once; each keeps its step, so that
one that is not finite is named exactly, if late.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Losses are read once a second, or after so many steps.
READ_EVERY_S = 1.0
READ_EVERY_STEPS = 200


@dataclass(frozen=True)
class StepRecord:
    """One step that was taken.

    Attributes:
        step: its number, counted from 0.
        loss: mean over its samples.
        learning_rate: of the first group of parameters; None where it stands on the device.
    """

    step: int
    loss: float
    learning_rate: float | None = None

    @property
    def finite(self) -> bool:
        """Whether the loss is a number."""
        return math.isfinite(self.loss)


class LossWatch:
    """Holds the losses of steps until they are read.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._steps: list[tuple[int, Any, float | None]] = []
        self._last_read = clock()

    def take(self, step: int, loss: Any, learning_rate: float | None) -> None:
        """Note a step's loss, a scalar tensor that is not yet read."""
        self._steps.append((step, loss, learning_rate))

    @property
    def due(self) -> bool:
        """Whether it is time to read."""
        waited = self._clock() - self._last_read
        return bool(self._steps) and (
            waited >= READ_EVERY_S or len(self._steps) >= READ_EVERY_STEPS
        )

    def read(self) -> list[StepRecord]:
        """The steps since the last reading; waits for the device once."""
        import torch

        self._last_read = self._clock()
        if not self._steps:
            return []
        steps, self._steps = self._steps, []
        losses = torch.stack([loss.float() for _, loss, _ in steps]).tolist()
        return [
            StepRecord(step, value, rate)
            for (step, _, rate), value in zip(steps, losses, strict=True)
        ]

    def forget(self) -> None:
        """Drop what was not read: those steps are taken again."""
        self._steps = []
