"""Rule: inference waits for memory, not for arithmetic."""

from __future__ import annotations

from saccade.diagnose.gains import MIN_GAIN, infer_scaled, today_gain
from saccade.diagnose.records import Finding
from saccade.profile.operators import attained, peak_gflops
from saccade.profile.records import Profile, Roofline
from saccade.runtimes.contract import OperatorTime

# Below half of the measured bandwidth an operator is slow for another reason: overhead, layout,
# too few threads. The bytes counted assume that every tensor travels once.
MIN_BANDWIDTH_SHARE = 0.5
# Where less than this share of the operators' time waits for memory, something else matters more.
MIN_TIME_SHARE = 0.25

HINTS = ("graph_optimization", "bf16", "int8", "runtime", "rect_letterbox")


def memory_bandwidth_bound(profile: Profile) -> Finding | None:
    """Operators that move data about as fast as the memory can.

    The bound lets them run as fast as their arithmetic alone would.
    """
    roofline = profile.roofline
    total_ms = sum(op.wall_ms for op in profile.operators)
    if roofline is None or total_ms <= 0:
        return None
    bound = [op for op in profile.operators if _waits_for_memory(op, roofline)]
    bound_ms = sum(op.wall_ms for op in bound)
    if bound_ms < MIN_TIME_SHARE * total_ms:
        return None
    compute_ms = sum(op.flops / peak_gflops(roofline, op.precision) / 1e6 for op in bound)
    gains = infer_scaled(profile, 1 - max(0.0, bound_ms - compute_ms) / total_ms)
    if today_gain(profile, gains) < MIN_GAIN:
        return None
    moved = sum(op.bytes for op in bound)
    evidence = {
        "memory_time_share": bound_ms / total_ms,
        "mb_per_frame": moved / 1e6,
        "attained_gbs": moved / bound_ms / 1e6,
        "bandwidth_gbs": roofline.bandwidth_gbs,
        "flops_per_byte": sum(op.flops for op in bound) / moved,
        "infer_ms": profile.stage("infer").wall_ms,
    }
    title = (
        f"Inference waits for memory: {evidence['memory_time_share']:.0%} of its time goes to "
        f"operators that move {evidence['mb_per_frame']:.0f} MB at {evidence['attained_gbs']:.1f} "
        f"of the {roofline.bandwidth_gbs:.1f} GB/s that this machine delivers."
    )
    share, sequential, pipelined = gains.share, gains.sequential, gains.pipelined
    return Finding("memory_bandwidth_bound", title, evidence, share, sequential, pipelined, HINTS)


def _waits_for_memory(op: OperatorTime, roofline: Roofline) -> bool:
    reached = attained(op, roofline)
    return reached.binding == "memory" and reached.share_of_roof >= MIN_BANDWIDTH_SHARE
