"""Results that tasks return. Light: NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import MissingExtraError
from saccade.tasks.box_masks import BoxMasks


@dataclass(frozen=True)
class ClassificationResult:
    """What one image shows.

    Attributes:
        scores: ``(C,)`` float32, one per class, 0-1.
    """

    scores: NDArray[np.float32]

    def top(self, k: int = 5) -> list[tuple[int, float]]:
        """The ``k`` best classes as (class id, score), best first."""
        order = np.argsort(-self.scores, kind="stable")[:k]
        return [(int(class_id), float(self.scores[class_id])) for class_id in order]


@dataclass(frozen=True)
class SegmentationResult:
    """A class for every pixel.

    Attributes:
        mask: ``(H, W)`` class ids of the original image, uint8 or (above 256 classes) int32.
    """

    mask: NDArray[np.integer[Any]]


@dataclass(frozen=True)
class DetectionResult:
    """Objects found in one image.

    Attributes:
        boxes: ``(N, 4)`` float32 xyxy, pixels of the original image, best score first.
        scores: ``(N,)`` float32.
        class_ids: ``(N,)`` int64.
        masks: the pixels of each object, within its box, where the task has them.
        track_ids: ``(N,)`` int64 where objects are tracked.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    masks: BoxMasks | None = None
    track_ids: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def to_supervision(self) -> Any:
        """The same as a ``supervision.Detections``.

        Raises:
            MissingExtraError: supervision is not installed.
        """
        try:
            import supervision as sv
        except ImportError as error:
            raise MissingExtraError("supervision", "supervision", "to_supervision()") from error
        return sv.Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=self.class_ids,
            mask=None if self.masks is None else self.masks.dense(),
            tracker_id=self.track_ids,
        )

    @classmethod
    def empty(cls) -> DetectionResult:
        """No objects."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))
