"""Rule: copying batches to the device holds steps back."""

from __future__ import annotations

from saccade.diagnose.records import Finding
from saccade.diagnose.training.costs import part_s
from saccade.diagnose.training.step_part import step_part
from saccade.train.profile import TrainingProfile

HINTS = ("pinned", "normalize_on_device", "prefetch")


def copy_bound(profile: TrainingProfile) -> Finding | None:
    """The copy's share of the step, with what is done to pixels once they are there."""
    seconds, batch_mb = part_s(profile, "copy"), profile.memory_mb.get("batch", 0.0)
    rate = batch_mb / 1e3 / seconds if seconds > 0 else 0.0
    evidence = {"batch_mb": batch_mb, "copied_gb_s": rate}
    what = "Batches are copied to the device"
    return step_part(profile, "copy_bound", seconds, what, HINTS, evidence)
