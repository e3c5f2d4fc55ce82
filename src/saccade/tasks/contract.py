"""What a task is: how outputs become results, which metric judges them, how they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.geometry import Letterbox

# Turns one frame's raw outputs into the task's result. One per running pipeline.
Postprocessor = Callable[[Sequence[NDArray[np.float32]], Letterbox], Any]


class Task(Protocol):
    """A vision task."""

    name: str
    metric: str

    @staticmethod
    def postprocessor(config: PipelineConfig) -> Postprocessor:
        """The function that turns outputs into results, under ``config``."""
        ...

    @staticmethod
    def draw(
        image: NDArray[np.uint8], result: Any, class_names: Sequence[str]
    ) -> NDArray[np.uint8]:
        """A copy of the RGB ``(H, W, 3)`` image with the result drawn on it."""
        ...
