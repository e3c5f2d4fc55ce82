"""What a dynamic resolution asks of the results of a small look. Pure."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from saccade.pipeline.config import ResolutionPolicy
from saccade.tasks.results import DetectionResult


def doubtful(policy: ResolutionPolicy, result: DetectionResult) -> bool:
    """Whether any box is neither noise nor certain."""
    scores = result.scores
    return bool(((scores > policy.doubt_above) & (scores < policy.sure_from)).any())


def above(threshold: float, result: DetectionResult) -> DetectionResult:
    """The result without what scores no more than ``threshold``.

    Suppression keeps the better of two boxes, so leaving out weak boxes after it gives what
    leaving them out before would have given.
    """
    kept = result.scores > threshold
    if kept.all():
        return result
    parts: dict[str, Any] = {
        field.name: value[kept]
        for field in fields(result)
        if isinstance(value := getattr(result, field.name), np.ndarray)
    }
    return replace(result, **parts)
