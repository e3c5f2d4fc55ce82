"""Image classification: scores per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import LabelledImage
from saccade.errors import ModelError
from saccade.models.description import ModelDescription
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.geometry import Letterbox
from saccade.tasks.contract import Postprocessor
from saccade.tasks.drawing import write_line
from saccade.tasks.results import ClassificationResult

# Score; what rounding may change where the order of classes stays.
SAME_SCORE = 0.005
SHOWN = 3


@dataclass(frozen=True, eq=False)
class ClassScores:
    """Scores of many images, ``(N, C)`` float32."""

    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)


class ClassificationTask:
    """One class per image; judged by top-1 and top-5."""

    name: ClassVar[str] = "classification"
    metrics: ClassVar[tuple[str, ...]] = ("top1", "top5")
    model_noun: ClassVar[str] = "classifier"
    usual_size: ClassVar[int] = 224

    @staticmethod
    def describe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> ModelDescription:
        """See `saccade.models.classifier.describe_classifier`."""
        from saccade.models.classifier import describe_classifier

        return describe_classifier(path, overrides)

    @staticmethod
    def postprocessor(config: PipelineConfig) -> Postprocessor:
        """Softmax where the model gives logits; a background class in front is left out.

        Raises:
            ModelError: the decode is not known.
        """
        decode, _, background = config.description.decode.partition("+")
        if decode not in ("logits", "probabilities"):
            raise ModelError(f"Unknown decode '{decode}'; known: logits, probabilities.")
        first = 1 if background else 0
        count = len(config.description.class_names)

        def postprocess(outputs: Sequence[NDArray[Any]], box: Letterbox) -> ClassificationResult:
            values = outputs[0].reshape(-1)[first : first + count].astype(np.float32)
            return ClassificationResult(softmax(values) if decode == "logits" else values)

        return postprocess

    @staticmethod
    def collect(results: Sequence[ClassificationResult]) -> ClassScores:
        """All scores as one array."""
        return ClassScores(np.stack([result.scores for result in results]))

    @staticmethod
    def same(first: ClassScores, second: ClassScores) -> bool:
        """The same class first in every image, and scores that differ by rounding only."""
        a, b = first.scores, second.scores
        if a.shape != b.shape or not np.array_equal(a.argmax(axis=1), b.argmax(axis=1)):
            return False
        return bool(np.abs(a - b).max() <= SAME_SCORE)

    @staticmethod
    def fit(result: ClassificationResult, image: LabelledImage) -> float:
        """The true class's score."""
        return float("nan") if image.label is None else float(result.scores[image.label])

    @staticmethod
    def classes_in(result: ClassificationResult) -> Sequence[int]:
        """The first class."""
        return [class_id for class_id, _ in result.top(1)]

    @staticmethod
    def draw(
        image: NDArray[np.uint8], result: ClassificationResult, class_names: Sequence[str]
    ) -> NDArray[np.uint8]:
        """Write the best classes into the top left corner of a copy."""
        canvas = np.ascontiguousarray(image).copy()
        for row, (class_id, score) in enumerate(result.top(SHOWN)):
            name = class_names[class_id] if class_id < len(class_names) else str(class_id)
            write_line(canvas, f"{name} {score:.2f}", row)
        return canvas


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax of ``(C,)``; garbage in gives NaN, without a warning."""
    with np.errstate(invalid="ignore", over="ignore"):
        powers = np.exp(logits - logits.max())
        shares: NDArray[np.float32] = powers / powers.sum()
    return shares
