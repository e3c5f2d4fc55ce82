"""Tracking: detection, then a tracker that gives every object an id; drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import LabelledImage
from saccade.models.description import ModelDescription
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.geometry import Letterbox
from saccade.tasks.bytetrack import ByteTracker
from saccade.tasks.contract import Postprocessor
from saccade.tasks.detection import SAME_BOX_PX, SAME_SCORE, DetectionTask
from saccade.tasks.drawing import class_color, label_box
from saccade.tasks.results import DetectionResult
from saccade.tasks.tracks import NO_TRACK, Tracks, ids_of


class TrackingPostprocessor:
    """Detection's postprocessing and a tracker, for the frames of one stream in their order."""

    def __init__(self, detect: Postprocessor, tracker: ByteTracker) -> None:
        self._detect = detect
        self._tracker = tracker
        self._frame = 0

    def __call__(self, outputs: Sequence[NDArray[np.float32]], box: Letterbox) -> DetectionResult:
        """The tracked objects of a frame that the model looked at."""
        result = self._tracker.update(self._detect(outputs, box), self._frame)
        self._frame += 1
        return result

    def fill_in(self, box: Letterbox) -> DetectionResult:
        """The tracked objects of a frame that the model did not look at, by their motion."""
        result = self._tracker.predict(self._frame, box.frame_hw)
        self._frame += 1
        return result


class TrackingTask:
    """Boxes with ids that stay with their objects; judged by HOTA, MOTA and IDF1."""

    name: ClassVar[str] = "tracking"
    metrics: ClassVar[tuple[str, ...]] = ("hota", "mota", "idf1")
    model_noun: ClassVar[str] = "detector"
    usual_size: ClassVar[int] = 640
    tracks: ClassVar[bool] = True

    @staticmethod
    def describe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> ModelDescription:
        """The model is a detector; see `saccade.models.onnx_model.describe`."""
        return DetectionTask.describe(path, overrides)

    @staticmethod
    def postprocessor(config: PipelineConfig) -> Postprocessor:
        """A new tracker behind detection; detection alone where ``config`` has no tracker.

        Raises:
            ModelError: the decode is not known.
            MissingExtraError: the tracker is not installed.
        """
        detect = DetectionTask.postprocessor(config)
        if config.tracker is None:
            return detect
        return TrackingPostprocessor(detect, ByteTracker(config.tracker))

    @staticmethod
    def collect(results: Sequence[DetectionResult]) -> Tracks:
        """All boxes, scores, classes and ids."""
        return Tracks.of(results)

    @staticmethod
    def same(first: Tracks, second: Tracks) -> bool:
        """The same boxes of the same objects, whatever number an object has."""
        if len(first) != len(second):
            return False
        numbers: dict[int, int] = {}
        return all(_same_frame(first, second, frame, numbers) for frame in range(len(first))) and (
            len(set(numbers.values())) == len(numbers)
        )

    @staticmethod
    def fit(result: DetectionResult, image: LabelledImage) -> float:
        """How well the boxes fit, whatever their ids; see detection."""
        return DetectionTask.fit(result, image)

    @staticmethod
    def classes_in(result: DetectionResult) -> Sequence[int]:
        """One per box."""
        return DetectionTask.classes_in(result)

    @staticmethod
    def draw(
        image: NDArray[np.uint8], result: DetectionResult, class_names: Sequence[str]
    ) -> NDArray[np.uint8]:
        """Draw boxes with class and id, in a colour per object, on a copy of the RGB image."""
        import cv2

        canvas = np.ascontiguousarray(image).copy()
        line = max(2, round(min(canvas.shape[:2]) / 400))
        found = zip(result.boxes, result.class_ids.tolist(), ids_of(result).tolist(), strict=True)
        for box, class_id, track in found:
            left, top, right, bottom = (round(float(value)) for value in box)
            color = class_color(track) if track != NO_TRACK else (160, 160, 160)
            cv2.rectangle(canvas, (left, top), (right, bottom), color, line)
            name = class_names[class_id] if class_id < len(class_names) else str(class_id)
            text = f"{name} {track}" if track != NO_TRACK else name
            label_box(canvas, text, (left, top), color, line)
        return canvas


def _same_frame(first: Tracks, second: Tracks, frame: int, numbers: dict[int, int]) -> bool:
    """Whether a frame's boxes are the same; ``numbers`` learns which id stands for which."""
    if len(first.scores[frame]) != len(second.scores[frame]):
        return False
    if not len(first.scores[frame]):
        return True
    pairs = zip(first.track_ids[frame].tolist(), second.track_ids[frame].tolist(), strict=True)
    return bool(
        np.array_equal(first.class_ids[frame], second.class_ids[frame])
        and np.abs(first.boxes[frame] - second.boxes[frame]).max() <= SAME_BOX_PX
        and np.abs(first.scores[frame] - second.scores[frame]).max() <= SAME_SCORE
        and all(numbers.setdefault(a, b) == b for a, b in pairs)
    )
