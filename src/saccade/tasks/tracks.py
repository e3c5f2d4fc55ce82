"""`Tracks`: what one system followed through the frames of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.tasks.results import DetectionResult

NO_TRACK = -1


@dataclass(frozen=True, eq=False)
class Tracks:
    """Boxes with ids per frame, in the order of the dataset's images.

    Attributes:
        boxes: per frame ``(N, 4)`` float32, xyxy pixels.
        scores: per frame ``(N,)`` float32.
        class_ids: per frame ``(N,)`` int64.
        track_ids: per frame ``(N,)`` int64; `NO_TRACK` for a box that belongs to no track (yet).
    """

    boxes: tuple[NDArray[np.float32], ...]
    scores: tuple[NDArray[np.float32], ...]
    class_ids: tuple[NDArray[np.int64], ...]
    track_ids: tuple[NDArray[np.int64], ...]

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def of(cls, results: Sequence[DetectionResult]) -> Tracks:
        """From one result per frame; one that was not tracked has no ids."""
        return cls(
            tuple(result.boxes for result in results),
            tuple(result.scores for result in results),
            tuple(result.class_ids for result in results),
            tuple(ids_of(result) for result in results),
        )


def ids_of(result: DetectionResult) -> NDArray[np.int64]:
    """``(N,)`` track ids; `NO_TRACK` for all where the result was not tracked."""
    if result.track_ids is None:
        return np.full(len(result), NO_TRACK, np.int64)
    return result.track_ids
