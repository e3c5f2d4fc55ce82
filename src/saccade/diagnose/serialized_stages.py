"""Rule: stages run one after the other while cores stand idle."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

from saccade.diagnose.gains import MIN_GAIN, cost_model, ratio
from saccade.diagnose.records import Finding
from saccade.profile.records import Profile

# With less idle time than this, overlapping has nothing to fill.
MIN_IDLE_SHARE = 0.15

HINTS = ("overlap_stages",)


def serialized_stages(profile: Profile) -> Finding | None:
    """Idle cores in sequential execution, per stage, and what overlapping all stages gains.

    The sequential bound is 1: this bottleneck is the sequential execution itself.
    """
    if profile.execution != "sequential" or profile.cores < 2 or profile.frame_ms <= 0:
        return None
    idle = 1 - profile.core_ms / (profile.frame_ms * profile.cores)
    today = cost_model(profile)
    overlapped = replace(today, overlapped=True, streams=max(2, today.streams))
    gain = ratio(today.frame_ms, overlapped.frame_ms)
    if idle < MIN_IDLE_SHARE or gain < MIN_GAIN:
        return None
    evidence = {
        "idle_share": idle,
        "cores": float(profile.cores),
        "frame_ms": profile.frame_ms,
        "core_ms_per_frame": profile.core_ms,
        "overlapped_frame_ms": overlapped.frame_ms,
    }
    for stage in profile.stages:
        if stage.wall_ms > 0:
            evidence[f"{stage.name}_cores_used"] = stage.cpu_ms / stage.wall_ms
    if len(profile.resources) > 1:
        # The first sample has no interval before it to speak of.
        evidence["machine_busy"] = fmean(s.machine_busy for s in profile.resources[1:])
    title = (
        f"Stages run one after the other: {idle:.0%} of {profile.cores} cores' time is idle, "
        f"{profile.frame_ms:.1f} ms per frame could be {overlapped.frame_ms:.1f} ms overlapped."
    )
    share = 1 - overlapped.frame_ms / today.frame_ms
    return Finding("serialized_stages", title, evidence, share, 1.0, gain, HINTS)
