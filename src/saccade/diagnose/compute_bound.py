"""Rule: inference is limited by arithmetic, and how far its kernels are from what is possible."""

from __future__ import annotations

from collections.abc import Iterable

from saccade.diagnose.gains import MIN_GAIN, infer_scaled, today_gain
from saccade.diagnose.records import Finding
from saccade.profile.operators import attained, peak_gflops
from saccade.profile.records import Profile, Roofline
from saccade.runtimes.contract import OperatorTime

# Less than this share of the operators' time under the compute roof, and arithmetic is not
# what inference waits for.
MIN_COMPUTE_SHARE = 0.4
# Kernels below half of the peak leave more to a better runtime than to fewer operations.
POOR_KERNELS = 0.5
# Two peaks closer than this are the same within timing noise.
MIN_HEADROOM = 1.2


def compute_bound(profile: Profile) -> Finding | None:
    """Operators under the compute roof, the peak they attain, and what lower precision offers.

    The bound lets those operators run at the machine's highest peak in any precision.
    """
    roofline = profile.roofline
    total_ms = sum(op.wall_ms for op in profile.operators)
    if roofline is None or total_ms <= 0:
        return None
    bound = [op for op in profile.operators if attained(op, roofline).binding == "compute"]
    bound_ms = sum(op.wall_ms for op in bound)
    if bound_ms < MIN_COMPUTE_SHARE * total_ms:
        return None
    ideal_ms = sum(_ideal_ms(op, roofline) for op in bound)
    gains = infer_scaled(profile, 1 - max(0.0, bound_ms - ideal_ms) / total_ms)
    if today_gain(profile, gains) < MIN_GAIN:
        return None
    evidence = _evidence(bound, roofline, bound_ms / total_ms)
    evidence["infer_ms"] = profile.stage("infer").wall_ms
    title = (
        f"Inference is limited by arithmetic: {evidence['compute_time_share']:.0%} of its time is "
        f"spent in products that reach {evidence['attained_gflops']:.0f} GFLOP/s, "
        f"{evidence['share_of_peak']:.0%} of this machine's peak in their precision."
    )
    return Finding(
        "compute_bound",
        title,
        evidence,
        gains.share,
        gains.sequential,
        gains.pipelined,
        _hints(evidence),
    )


def _ideal_ms(op: OperatorTime, roofline: Roofline) -> float:
    fastest = max(roofline.peak_gflops.values())
    return min(op.wall_ms, op.flops / fastest / 1e6)


def _evidence(
    bound: Iterable[OperatorTime], roofline: Roofline, time_share: float
) -> dict[str, float]:
    operators = list(bound)
    seconds = sum(op.wall_ms for op in operators) / 1e3
    flops = sum(op.flops for op in operators)
    at_peak_s = sum(op.flops / peak_gflops(roofline, op.precision) / 1e9 for op in operators)
    current = flops / at_peak_s / 1e9
    evidence = {
        "compute_time_share": time_share,
        "gflop_per_frame": flops / 1e9,
        "attained_gflops": flops / seconds / 1e9,
        "peak_gflops": current,
        "share_of_peak": at_peak_s / seconds,
    }
    for precision, peak in roofline.peak_gflops.items():
        if peak > MIN_HEADROOM * current:
            evidence[f"headroom_{precision}"] = peak / current
    return evidence


def _hints(evidence: dict[str, float]) -> tuple[str, ...]:
    hints = [name for name in ("bf16", "int8") if f"headroom_{name}" in evidence]
    if evidence["share_of_peak"] < POOR_KERNELS:
        hints += ["runtime", "graph_optimization"]
    return (*hints, "rect_letterbox", "resolution")
