"""Rule: making batches of samples holds steps back."""

from __future__ import annotations

from saccade.diagnose.records import Finding
from saccade.diagnose.training.loader_part import loader_part
from saccade.train.profile import TrainingProfile

HINTS = ("vectorized_collate", "normalize_on_device", "workers", "prefetch")


def slow_collate(profile: TrainingProfile) -> Finding | None:
    """Time in the job's ``collate``."""
    return loader_part(profile, "slow_collate", ("collate_s",), "Making a batch of samples", HINTS)
