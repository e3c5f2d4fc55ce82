"""Object detection: decode, class-wise NMS, back to the frame's pixels; drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import LabelledImage
from saccade.errors import ModelError
from saccade.models.description import BoxOutputs, ModelDescription
from saccade.models.families import BOX_DECODES, FINAL_DECODES
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.geometry import Letterbox
from saccade.tasks.box_decode import box_decode, graph_outputs
from saccade.tasks.contract import Postprocessor
from saccade.tasks.detection_decode import DECODES, Candidates, Decode
from saccade.tasks.detections import Detections
from saccade.tasks.drawing import class_color, label_box
from saccade.tasks.nms import METHODS, Suppress, best_first
from saccade.tasks.results import DetectionResult

# Pixels. Far larger than any image, and far from where float32 areas overflow.
MAX_COORDINATE = 1e7
# Results count as the same if boxes and scores differ by less than this.
SAME_BOX_PX = 1.0
SAME_SCORE = 0.005


class DetectionTask:
    """Boxes, scores and classes; judged by COCO mAP."""

    name: ClassVar[str] = "detection"
    metrics: ClassVar[tuple[str, ...]] = ("map50_95", "map50")
    model_noun: ClassVar[str] = "detector"
    usual_size: ClassVar[int] = 640

    @staticmethod
    def describe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> ModelDescription:
        """See `saccade.models.onnx_model.describe`."""
        from saccade.models.onnx_model import describe

        return describe(path, overrides)

    @staticmethod
    def postprocessor(config: PipelineConfig) -> Postprocessor:
        """Decode, threshold, NMS and un-letterbox, as ``config`` says.

        Raises:
            ModelError: the decode is not known.
        """
        decode, suppress = _stages(config)
        turned = config.description.transposed and config.nms != "graph"
        counted = np.array(config.classes, np.int64)

        def postprocess(outputs: Sequence[NDArray[Any]], box: Letterbox) -> DetectionResult:
            if turned:
                outputs = [np.swapaxes(tensor, -1, -2) for tensor in outputs]
            # A model that overflowed puts anything here; what is not finite is dropped below.
            with np.errstate(invalid="ignore", over="ignore"):
                found = decode(outputs, config.score_threshold, box.input_hw)
            return suppressed(of_classes(found, counted), config, box, suppress)[0]

        return postprocess

    @staticmethod
    def collect(results: Sequence[DetectionResult]) -> Detections:
        """All boxes, scores and classes."""
        return Detections.of((r.boxes, r.scores, r.class_ids) for r in results)

    @staticmethod
    def same(first: Detections, second: Detections) -> bool:
        """The same boxes of the same classes; threads change the order of floating-point sums."""
        return len(first) == len(second) and all(
            _same_boxes(first, second, index) for index in range(len(first))
        )

    @staticmethod
    def fit(result: DetectionResult, image: LabelledImage) -> float:
        """See `saccade.models.label_fit.label_fit`."""
        from saccade.models.label_fit import label_fit

        return label_fit(
            result.boxes, result.scores, result.class_ids, image.boxes, image.class_ids
        )

    @staticmethod
    def classes_in(result: DetectionResult) -> Sequence[int]:
        """One per box."""
        found: list[int] = result.class_ids.tolist()
        return found

    @staticmethod
    def draw(
        image: NDArray[np.uint8], result: DetectionResult, class_names: Sequence[str]
    ) -> NDArray[np.uint8]:
        """Draw boxes with class and score on a copy of the RGB ``(H, W, 3)`` image."""
        import cv2

        canvas = np.ascontiguousarray(image).copy()
        line = max(2, round(min(canvas.shape[:2]) / 400))
        for box, score, class_id in zip(result.boxes, result.scores, result.class_ids, strict=True):
            color = class_color(int(class_id))
            left, top, right, bottom = (round(float(v)) for v in box)
            cv2.rectangle(canvas, (left, top), (right, bottom), color, line)
            name = class_names[class_id] if class_id < len(class_names) else str(class_id)
            label_box(canvas, f"{name} {score:.2f}", (left, top), color, line)
        return canvas


def _stages(config: PipelineConfig) -> tuple[Decode, Suppress]:
    """How outputs become candidates, and what is kept of those."""
    described = config.description
    filter_first = config.nms != "loop"
    if config.nms == "graph":
        return box_decode("nms_inside", graph_outputs(described), filter_first), best_first
    suppress = best_first if described.decode in FINAL_DECODES else METHODS[config.nms]
    if described.decode in BOX_DECODES:
        outputs = described.outputs or BoxOutputs()
        return box_decode(described.decode, outputs, filter_first), suppress
    if described.decode not in DECODES:
        raise ModelError(
            f"Unknown decode '{described.decode}'; known: {', '.join((*DECODES, *BOX_DECODES))}."
        )
    return DECODES[described.decode][0 if filter_first else 1], suppress


def suppressed(
    found: Candidates, config: PipelineConfig, box: Letterbox, suppress: Suppress
) -> tuple[DetectionResult, NDArray[np.int64]]:
    """Candidates after NMS in the frame's pixels, and which of the candidates they are."""
    boxes, scores, class_ids = found
    # Only numbers that can be reckoned with.
    sound = np.flatnonzero((np.abs(boxes) < MAX_COORDINATE).all(axis=1) & np.isfinite(scores))
    if len(sound) < len(scores):
        boxes, scores, class_ids = boxes[sound], scores[sound], class_ids[sound]
    if not len(boxes):
        return DetectionResult.empty(), sound
    kept = suppress(boxes, scores, class_ids, config.iou_threshold, config.max_detections)
    placed = box.to_frame(boxes[kept])
    # A box that lies in the border has no area in the frame.
    inside = (placed[:, 2:] > placed[:, :2]).all(axis=1)
    kept, placed = kept[inside], placed[inside]
    result = DetectionResult(placed, scores[kept], class_ids[kept].astype(np.int64))
    return result, sound[kept]


def of_classes(candidates: Candidates, counted: NDArray[np.int64]) -> Candidates:
    """Only the candidates of the classes that count; all of them where none are named."""
    if not len(counted):
        return candidates
    boxes, scores, class_ids = candidates
    kept = np.isin(class_ids, counted)
    return boxes[kept], scores[kept], class_ids[kept]


def _same_boxes(first: Detections, second: Detections, index: int) -> bool:
    """Whether each box has a counterpart; those of equal scores may come in another order."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    if len(first.scores[index]) != len(second.scores[index]):
        return False
    moved = np.abs(first.boxes[index][:, None] - second.boxes[index]).max(axis=2)
    rescored = np.abs(first.scores[index][:, None] - second.scores[index])
    alike = (moved <= SAME_BOX_PX) & (rescored <= SAME_SCORE)
    alike &= first.class_ids[index][:, None] == second.class_ids[index]
    return bool(np.all(maximum_bipartite_matching(csr_array(alike)) >= 0))
