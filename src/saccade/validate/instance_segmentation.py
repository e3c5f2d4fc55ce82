"""Judge of instance segmentation: COCO's mAP of masks and of boxes, and agreement of masks."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import Dataset
from saccade.tasks.detections import Detections
from saccade.validate.agreement import agreement, agreement_drop
from saccade.validate.bootstrap import replicates
from saccade.validate.contract import Scored, SizeAccuracy
from saccade.validate.detection_metrics import evaluate, evaluate_by_size
from saccade.validate.drop_bound import DropBound


class InstanceSegmentationJudge:
    """mAP by pycocotools, matched by the overlap of masks and by that of boxes."""

    # As for detection: COCO integrates over scores, and agreement asks for what is sure.
    threshold: ClassVar[float] = 0.001
    agreement_threshold: ClassVar[float] = 0.05

    @staticmethod
    def scored(dataset: Dataset, outputs: Detections, weights: NDArray[np.int64]) -> Scored:
        """Mask and box mAP50-95 and mAP50, over all classes; per class and size that of masks."""
        masks = replicates(evaluate(dataset, outputs, "masks"), weights)
        boxes = replicates(evaluate(dataset, outputs, "boxes"), weights)
        metrics = {
            "mask_map50_95": masks.map50_95,
            "mask_map50": masks.map50,
            "map50_95": boxes.map50_95,
            "map50": boxes.map50,
        }
        sizes = evaluate_by_size(dataset, outputs, "masks")
        by_size = {size: SizeAccuracy(*value) for size, value in sizes.items()}
        return Scored(metrics, masks.per_class, by_size)

    @staticmethod
    def agreement(
        dataset: Dataset, reference: Detections, candidate: Detections, weights: NDArray[np.int64]
    ) -> DropBound:
        """See `saccade.validate.agreement.agreement`; objects are matched by their masks."""
        found = agreement(dataset, reference, candidate, overlap="masks")
        return agreement_drop(found, weights)
