"""Rule: the batch is so small that costs which do not depend on it make up the step."""

from __future__ import annotations

from saccade.diagnose.records import Finding
from saccade.diagnose.training.costs import StepCost, fixed_share, output_s
from saccade.diagnose.training.step_part import step_part
from saccade.train.profile import TrainingProfile

HINTS = ("larger_batch", "largest_batch", "compile", "fused_optimizer")
LEAST = 0.25


def tiny_batch(profile: TrainingProfile) -> Finding | None:
    """The constant of the line through the times of two batch sizes."""
    if len(profile.scaled_ms) < 2:
        return None
    fixed = fixed_share(profile)
    seconds = fixed * max(0.0, StepCost.of(profile).alone_s - output_s(profile))
    small, large = min(profile.scaled_ms), max(profile.scaled_ms)
    evidence = {
        "batch": float(small),
        "larger_batch": float(large),
        "batch_step_ms": profile.scaled_ms[small],
        "larger_batch_step_ms": profile.scaled_ms[large],
        "fixed_share": fixed,
    }
    what = f"A batch of {small} is small, and what a step costs without regard to it is most of it"
    return step_part(profile, "tiny_batch", seconds, what, HINTS, evidence, LEAST)
