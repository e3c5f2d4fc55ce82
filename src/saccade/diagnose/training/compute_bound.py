"""Rule: arithmetic of convolutions and matrix products is what steps are made of."""

from __future__ import annotations

from saccade.diagnose.records import Finding
from saccade.diagnose.training.costs import fixed_share, operating_s
from saccade.diagnose.training.operator_kinds import computing_share
from saccade.diagnose.training.step_part import step_part
from saccade.train.profile import TrainingProfile

HINTS = ("autocast", "tf32", "channels_last", "compile", "autotune", "ddp")
LEAST = 0.3


def compute_bound(profile: TrainingProfile) -> Finding | None:
    """What a step computes for its samples, without costs that do not depend on them."""
    heavy, fixed = computing_share(profile), fixed_share(profile)
    seconds = operating_s(profile) * heavy * (1 - fixed)
    evidence = {"arithmetic_share_of_operators": heavy, "fixed_share": fixed}
    if profile.operators:
        evidence["slowest_operator_ms"] = profile.operators[0].wall_ms
    slowest = f" (slowest: {profile.operators[0].name})" if profile.operators else ""
    what = f"Convolutions and matrix products compute{slowest}"
    return step_part(profile, "compute_bound", seconds, what, HINTS, evidence, LEAST)
