"""Instance segmentation: detection with a mask for every box that is kept."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import LabelledImage
from saccade.errors import ModelError
from saccade.models.description import ModelDescription
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.geometry import Letterbox
from saccade.tasks import nms
from saccade.tasks.box_masks import BoxMasks
from saccade.tasks.contract import Postprocessor
from saccade.tasks.detection import DetectionTask, suppressed
from saccade.tasks.detection_decode import passing, passing_common
from saccade.tasks.detections import Detections
from saccade.tasks.drawing import class_color
from saccade.tasks.mask_decode import METHODS
from saccade.tasks.results import DetectionResult

DECODE = "yolov8_seg"
OPACITY = 0.5
# Share of a mask's pixels that rounding may change: those on its edge.
SAME_PIXELS = 0.02
# On a mask of a few pixels, the edge is most of it.
SAME_LEAST_PIXELS = 16


class InstanceSegmentationTask:
    """Boxes with masks; judged by COCO mAP of masks and of boxes."""

    name: ClassVar[str] = "instance_segmentation"
    metrics: ClassVar[tuple[str, ...]] = ("mask_map50_95", "mask_map50", "map50_95", "map50")
    model_noun: ClassVar[str] = "instance segmenter"
    usual_size: ClassVar[int] = 640

    @staticmethod
    def describe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> ModelDescription:
        """See `saccade.models.instance_segmenter.describe_instance_segmenter`."""
        from saccade.models.instance_segmenter import describe_instance_segmenter

        return describe_instance_segmenter(path, overrides)

    @staticmethod
    def postprocessor(config: PipelineConfig) -> Postprocessor:
        """Boxes as a detector's, then masks for those that are kept.

        Raises:
            ModelError: the decode is not known.
        """
        if config.description.decode != DECODE:
            raise ModelError(f"Unknown decode '{config.description.decode}'; known: {DECODE}.")
        return _Postprocessor(config)

    @staticmethod
    def collect(results: Sequence[DetectionResult]) -> Detections:
        """All boxes, scores, classes and outlines."""
        return Detections.of(
            ((r.boxes, r.scores, r.class_ids) for r in results),
            [r.masks.outlines() if r.masks is not None else () for r in results],
        )

    @staticmethod
    def same(first: Detections, second: Detections) -> bool:
        """The same boxes, and the same masks but for pixels on their edges."""
        return DetectionTask.same(first, second) and all(
            _same_outlines(a, b)
            for a, b in zip(first.outlines or (), second.outlines or (), strict=True)
        )

    @staticmethod
    def fit(result: DetectionResult, image: LabelledImage) -> float:
        """How well the boxes fit: a mistake in preprocessing shows in them already."""
        return DetectionTask.fit(result, image)

    @staticmethod
    def classes_in(result: DetectionResult) -> Sequence[int]:
        """One per box."""
        return DetectionTask.classes_in(result)

    @staticmethod
    def draw(
        image: NDArray[np.uint8], result: DetectionResult, class_names: Sequence[str]
    ) -> NDArray[np.uint8]:
        """Tint the objects on a copy of the image, edge them, and draw boxes as of a detector."""
        canvas = np.ascontiguousarray(image).copy()
        if result.masks is not None:
            # Best last, so that it lies on top.
            for index in reversed(range(len(result))):
                _tint(canvas, result.masks, index, class_color(int(result.class_ids[index])))
        return DetectionTask.draw(canvas, result, class_names)


class _Postprocessor:
    """Remembers when it last decoded masks, so that a profile can tell them from boxes."""

    def __init__(self, config: PipelineConfig) -> None:
        self._config = config
        self._find = passing_common if config.nms == "loop" else passing
        self._suppress = nms.METHODS[config.nms]
        self._masks = METHODS[config.masks]
        self.parts: dict[str, tuple[float, float]] = {}

    def __call__(self, outputs: Sequence[NDArray[Any]], box: Letterbox) -> DetectionResult:
        rows, prototypes = self._tensors(outputs)
        classes_end = len(rows) - len(prototypes)
        # A model that overflowed puts anything here; what is not finite is dropped with its box.
        with np.errstate(invalid="ignore", over="ignore"):
            found, anchors = self._find(rows[:classes_end], self._config.score_threshold)
        result, kept = suppressed(found, self._config, box, self._suppress)
        began = time.perf_counter()
        coefficients = np.ascontiguousarray(rows[classes_end:, anchors[kept]].T)
        with np.errstate(invalid="ignore", over="ignore"):
            masks = self._masks(prototypes, coefficients, result.boxes, box)
        self.parts = {"masks": (began, time.perf_counter())}
        return _with_masks(result, masks)

    def _tensors(
        self, outputs: Sequence[NDArray[Any]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Rows ``(4 + classes + K, anchors)`` and prototypes ``(K, h, w)``, in whichever order."""
        rows, prototypes = sorted(outputs, key=np.ndim)
        turned = self._config.description.transposed
        return rows[0].T if turned else rows[0], prototypes[0]


def _with_masks(result: DetectionResult, masks: BoxMasks) -> DetectionResult:
    """The objects that have a pixel: one without overlaps nothing, not even itself."""
    kept = np.flatnonzero([crop.any() for crop in masks.crops])
    if len(kept) == len(masks):
        return replace(result, masks=masks)
    return DetectionResult(
        result.boxes[kept], result.scores[kept], result.class_ids[kept], masks.take(kept)
    )


def _same_outlines(first: Sequence[Any], second: Sequence[Any]) -> bool:
    from pycocotools import mask

    for a, b in zip(first, second, strict=True):
        if (a.height, a.width) != (b.height, b.width):
            return False
        either = int(mask.area(mask.merge([a.coco, b.coco])))
        both = int(mask.area(mask.merge([a.coco, b.coco], intersect=True)))
        if either - both > max(SAME_LEAST_PIXELS, SAME_PIXELS * either):
            return False
    return True


def _tint(
    canvas: NDArray[np.uint8], masks: BoxMasks, index: int, color: tuple[int, int, int]
) -> None:
    import cv2

    crop = np.ascontiguousarray(masks.crops[index])
    if not crop.size:
        return
    region = canvas[masks.place(index)]
    ink = np.array(color, np.float32)
    region[crop] = (region[crop] * np.float32(1 - OPACITY) + ink * np.float32(OPACITY)).astype(
        np.uint8
    )
    edges, _ = cv2.findContours(crop.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    top, left = (int(value) for value in masks.corners[index])
    cv2.drawContours(canvas, edges, -1, color, 1, offset=(left, top))
