"""Rule: time goes to the framework around the operators rather than into them."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

from saccade.diagnose.gains import MIN_GAIN, cost_model, pipelined_streams, ratio
from saccade.diagnose.pressure import core_pressure
from saccade.diagnose.records import Finding
from saccade.profile.cost_model import CostModel, StageCost
from saccade.profile.records import Profile

# An operator this few times the cost of calling it is mostly the call.
TINY_OPERATOR_DISPATCHES = 3.0
# Less than this share of a frame is the price of any framework.
MIN_OVERHEAD_SHARE = 0.1

HINTS = ("graph_optimization", "runtime", "overlap_stages")


def framework_overhead(profile: Profile) -> Finding | None:
    """Gaps between stages, inference time that no operator accounts for, and tiny operators.

    The bound removes all three. On a machine that other processes crowd, waiting for a core
    looks the same as overhead, so nothing is concluded there.
    """
    if core_pressure(profile).crowded_by_others:
        return None
    gap_ms = fmean(profile.gaps_ms) if profile.gaps_ms else 0.0
    unaccounted_ms = _unaccounted_ms(profile)
    dispatch_us = profile.roofline.dispatch_us if profile.roofline else 0.0
    tiny = [
        op for op in profile.operators if 1e3 * op.wall_ms <= TINY_OPERATOR_DISPATCHES * dispatch_us
    ]
    tiny_ms = sum(op.wall_ms for op in tiny)
    inside_ms = min(profile.stage("infer").wall_ms, unaccounted_ms + tiny_ms)
    total_ms = profile.frame_ms + gap_ms
    if total_ms <= 0 or gap_ms + inside_ms < MIN_OVERHEAD_SHARE * total_ms:
        return None
    sequential, pipelined = _gains(profile, gap_ms, inside_ms)
    if (pipelined if profile.execution == "overlapped" else sequential) < MIN_GAIN:
        return None
    evidence = {
        "gap_ms": gap_ms,
        "unaccounted_infer_ms": unaccounted_ms,
        "tiny_operators": float(len(tiny)),
        "tiny_operators_ms": tiny_ms,
        "dispatch_us": dispatch_us,
        "operators": float(len(profile.operators)),
        "frame_ms": total_ms,
    }
    share = (gap_ms + inside_ms) / total_ms
    title = (
        f"{gap_ms + inside_ms:.1f} of {total_ms:.1f} ms per frame is overhead: {gap_ms:.1f} ms "
        f"between stages, {unaccounted_ms:.1f} ms of inference outside its operators, "
        f"{tiny_ms:.1f} ms in {len(tiny)} tiny operators."
    )
    return Finding("framework_overhead", title, evidence, share, sequential, pipelined, HINTS)


def _unaccounted_ms(profile: Profile) -> float:
    # Without operator times nothing is known about the inside of inference.
    if not profile.operators:
        return 0.0
    return max(0.0, profile.stage("infer").wall_ms - sum(op.wall_ms for op in profile.operators))


def _gains(profile: Profile, gap_ms: float, inside_ms: float) -> tuple[float, float]:
    """Sequential and pipelined bounds; the cost model knows stages only, so gaps are added."""
    today = cost_model(profile)
    infer = profile.stage("infer")
    kept = 1 - inside_ms / infer.wall_ms if infer.wall_ms > 0 else 1.0
    cost = StageCost(infer.wall_ms, infer.cpu_ms).scaled(kept)
    after = CostModel({**today.stages, "infer": cost}, today.cores, False, pipelined_streams(today))
    in_turn_ms = replace(today, overlapped=False).frame_ms + gap_ms
    # Overlapped stages hide the gaps between them, so today's frame has them only in sequence.
    today_ms = today.frame_ms if today.overlapped else in_turn_ms
    overlapped_ms = replace(after, overlapped=True).frame_ms
    return ratio(in_turn_ms, after.frame_ms), ratio(today_ms, overlapped_ms)
