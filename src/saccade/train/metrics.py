"""Metrics that cannot be averaged over batches: ``update(output, target)`` and ``compute()``."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray


class MeanIou:
    """Mean intersection over union of the classes that occur.

    Args:
        classes: how many there are.
        void: id in the target that is not judged.
    """

    def __init__(self, classes: int, void: int = 255) -> None:
        self._counts = np.zeros((classes, classes), np.int64)
        self._void = void

    def update(self, output: Any, target: Any) -> None:
        """Count a batch: ``(N, C, H, W)`` scores and ``(N, H, W)`` ids."""
        predicted, wanted = output.argmax(1).cpu().numpy(), target.cpu().numpy()
        judged = wanted != self._void
        classes = len(self._counts)
        pairs = wanted[judged].astype(np.int64) * classes + predicted[judged]
        self._counts += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)

    def compute(self) -> float:
        """In 0-1."""
        hits = np.diag(self._counts)
        union = self._counts.sum(0) + self._counts.sum(1) - hits
        occurs = self._counts.sum(1) > 0
        return float((hits[occurs] / union[occurs]).mean()) if occurs.any() else 0.0


class BoxAveragePrecision:
    """mAP50-95 by pycocotools, on the boxes of torchvision's detectors."""

    def __init__(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._objects: list[dict[str, Any]] = []
        self._found: list[NDArray[np.float64]] = []

    def update(self, output: Any, target: Any) -> None:
        """Note a batch: of each image ``boxes`` xyxy, ``labels``, and ``scores`` of those found."""
        for found, wanted in zip(output["detections"], target, strict=True):
            number = len(self._images) + 1
            self._images.append({"id": number})
            boxes = _xywh(wanted["boxes"])
            for box, label in zip(boxes, wanted["labels"].tolist(), strict=True):
                self._objects.append(
                    {
                        "id": len(self._objects) + 1,
                        "image_id": number,
                        "category_id": label,
                        "bbox": box.tolist(),
                        "area": float(box[2] * box[3]),
                        "iscrowd": 0,
                    }
                )
            rows = _xywh(found["boxes"])
            scores = found["scores"].double().cpu().numpy()[:, None]
            labels = found["labels"].double().cpu().numpy()[:, None]
            numbers = np.full((len(rows), 1), float(number))
            self._found.append(np.concatenate([numbers, rows, scores, labels], 1))

    def compute(self) -> float:
        """In 0-1; zero where nothing was found, or there is nothing to find."""
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        rows = np.concatenate(self._found) if self._found else np.zeros((0, 7))
        if not len(rows) or not self._objects:
            return 0.0
        classes = sorted(
            {int(o["category_id"]) for o in self._objects} | set(rows[:, 6].astype(int))
        )
        truth = COCO()
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
            truth.dataset = {
                "images": self._images,
                "annotations": self._objects,
                "categories": [{"id": int(index)} for index in classes],
            }
            truth.createIndex()
            judge = COCOeval(truth, truth.loadRes(rows), "bbox")
            judge.evaluate()
            judge.accumulate()
            judge.summarize()
        return max(0.0, float(judge.stats[0]))


def _xywh(boxes: Any) -> NDArray[np.float64]:
    corners = boxes.double().cpu().numpy().reshape(-1, 4)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
