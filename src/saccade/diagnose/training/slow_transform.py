"""Rule: augmenting samples holds steps back."""

from __future__ import annotations

from saccade.diagnose.records import Finding
from saccade.diagnose.training.loader_part import loader_part
from saccade.train.profile import TrainingProfile

HINTS = ("normalize_on_device", "dali", "scaled_decode", "workers", "prefetch")


def slow_transform(profile: TrainingProfile) -> Finding | None:
    """Time in the job's ``transforms``."""
    return loader_part(
        profile, "slow_transform", ("transform_s",), "The job's transforms function", HINTS
    )
