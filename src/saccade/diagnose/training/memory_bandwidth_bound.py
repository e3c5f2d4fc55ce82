"""Rule: operators that do little arithmetic per byte are what steps are made of."""

from __future__ import annotations

from saccade.diagnose.records import Finding
from saccade.diagnose.training.costs import fixed_share, operating_s
from saccade.diagnose.training.operator_kinds import (
    computes,
    computing_share,
    light_gb_s,
    moves_memory,
)
from saccade.diagnose.training.step_part import step_part
from saccade.train.profile import TrainingProfile

HINTS = ("compile", "fused_norm", "autocast", "channels_last")
LEAST = 0.25


def memory_bandwidth_bound(profile: TrainingProfile) -> Finding | None:
    """Normalization, activations, copies and the like: reading and writing memory."""
    light = [op for op in profile.operators if not computes(op)]
    light_ms, moved = sum(op.wall_ms for op in light), sum(op.bytes for op in light)
    if not moves_memory(profile):
        return None
    seconds = operating_s(profile) * (1 - computing_share(profile)) * (1 - fixed_share(profile))
    evidence = {
        "light_operators_ms": light_ms,
        "moved_mb": moved / 1e6,
        "moved_gb_s": light_gb_s(profile),
    }
    slowest = f" (slowest: {light[0].name})" if light else ""
    what = f"Operators that mostly read and write memory{slowest}"
    name = "memory_bandwidth_bound"
    return step_part(profile, name, seconds, what, HINTS, evidence, LEAST)
