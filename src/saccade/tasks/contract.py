"""What a task is: how its models are described, how outputs become results, how they are drawn.

Which metric judges the results is in the task's judge (`saccade.validate.contract`), because
metrics are heavy and running a pipeline is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import LabelledImage
from saccade.models.description import ModelDescription
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.geometry import Letterbox

# Turns one frame's raw outputs into the task's result. One per stream, called in its order. It may
# have an attribute ``parts``: name → (start, end) of what its last call did, on
# `time.perf_counter`; a profile shows them beside the stages.
Postprocessor = Callable[[Sequence[NDArray[Any]], Letterbox], Any]


class Task(Protocol):
    """A vision task.

    Attributes:
        name: as in the table of plug-ins.
        metrics: accuracy metrics by name; the first guards the search where no goal says which.
        model_noun: what its models are called.
        usual_size: side of the input in pixels where nothing says another.

    A task whose results depend on the frames before says ``tracks = True``; its configurations
    have a tracker, and it is judged on frames in a row. Its postprocessors may have a method
    ``fill_in(box)``, which gives the result of a frame that the model did not look at.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    model_noun: ClassVar[str]
    usual_size: ClassVar[int]

    @staticmethod
    def describe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> ModelDescription:
        """Find out how to run a model from its file.

        Raises:
            ModelError: the file cannot be read, or is no model of this task.
        """
        ...

    @staticmethod
    def postprocessor(config: PipelineConfig) -> Postprocessor:
        """The function that turns outputs into results, under ``config``."""
        ...

    @staticmethod
    def collect(results: Sequence[Any]) -> Any:
        """Results of many images as one value that can be pickled and has a length."""
        ...

    @staticmethod
    def same(first: Any, second: Any) -> bool:
        """Whether two collected values hold the same results, but for rounding."""
        ...

    @staticmethod
    def fit(result: Any, image: LabelledImage) -> float:
        """How well a result fits an image's label, 0-1; NaN where the image has none.

        It compares settings of one model on few images; it is not an accuracy to report.
        """
        ...

    @staticmethod
    def classes_in(result: Any) -> Sequence[int]:
        """Ids of what was found, one per object; for counting."""
        ...

    @staticmethod
    def draw(
        image: NDArray[np.uint8], result: Any, class_names: Sequence[str]
    ) -> NDArray[np.uint8]:
        """A copy of the RGB ``(H, W, 3)`` image with the result drawn on it."""
        ...
