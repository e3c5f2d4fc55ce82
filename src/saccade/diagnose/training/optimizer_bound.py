"""Rule: the optimizer holds steps back."""

from __future__ import annotations

from saccade.diagnose.records import Finding
from saccade.diagnose.training.costs import part_s
from saccade.diagnose.training.step_part import step_part
from saccade.train.profile import TrainingProfile

HINTS = ("fused_optimizer", "larger_batch", "compile")


def optimizer_bound(profile: TrainingProfile) -> Finding | None:
    """The optimizer's share of the step. It costs the same whatever the batch."""
    seconds = part_s(profile, "optimizer")
    evidence = {
        "parameters_mb": profile.memory_mb.get("parameters", 0.0),
        "optimizer_state_mb": profile.memory_mb.get("optimizer", 0.0),
    }
    what = "The optimizer updates the parameters"
    return step_part(profile, "optimizer_bound", seconds, what, HINTS, evidence)
