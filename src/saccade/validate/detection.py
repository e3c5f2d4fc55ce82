"""Judge of detection: COCO's mAP, and agreement by mAP50 in both directions."""

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


class DetectionJudge:
    """mAP by pycocotools."""

    # COCO integrates over scores down to this.
    threshold: ClassVar[float] = 0.001
    # Agreement looks at what the baseline is sure of; far below that nothing matters.
    agreement_threshold: ClassVar[float] = 0.05

    @staticmethod
    def scored(dataset: Dataset, outputs: Detections, weights: NDArray[np.int64]) -> Scored:
        """mAP50-95 and mAP50, over all classes and for each; AP50-95 by object size."""
        found = replicates(evaluate(dataset, outputs), weights)
        sizes = evaluate_by_size(dataset, outputs)
        return Scored(
            {"map50_95": found.map50_95, "map50": found.map50},
            found.per_class,
            {size: SizeAccuracy(*value) for size, value in sizes.items()},
        )

    @staticmethod
    def agreement(
        dataset: Dataset, reference: Detections, candidate: Detections, weights: NDArray[np.int64]
    ) -> DropBound:
        """See `saccade.validate.agreement.agreement`."""
        return agreement_drop(agreement(dataset, reference, candidate), weights)
