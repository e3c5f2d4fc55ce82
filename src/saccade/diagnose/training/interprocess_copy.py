"""Rule: handing batches from loader workers to the training process holds steps back."""

from __future__ import annotations

from saccade.diagnose.records import Finding
from saccade.diagnose.training.loader_part import loader_part
from saccade.train.profile import TrainingProfile

HINTS = ("thread_loader", "normalize_on_device", "vectorized_collate", "persistent", "dali")


def interprocess_copy(profile: TrainingProfile) -> Finding | None:
    """What a worker's batch takes beyond the time that its samples took there."""
    batch_mb = profile.memory_mb.get("batch", 0.0)
    return loader_part(
        profile,
        "interprocess_copy",
        ("copy_s",),
        "Handing a batch from its worker to the loop",
        HINTS,
        {"batch_mb": batch_mb},
    )
