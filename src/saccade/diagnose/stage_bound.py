"""What the rules about one pipeline stage have in common. Pure."""

from __future__ import annotations

from saccade.diagnose.gains import MIN_STAGE_SHARE, today_gain, without
from saccade.diagnose.records import Finding
from saccade.profile.records import Profile


def stage_bound(
    profile: Profile,
    stage: str,
    name: str,
    verb: str,
    hints: tuple[str, ...],
    rest_ms: float = 0.0,
) -> Finding | None:
    """A finding where ``stage`` holds back today's frame rate by more than the least share.

    In sequential execution that is its share of the wall time; in overlapped execution what the
    frame would be shorter by without it, so a stage that hides behind another is not named.

    Args:
        profile: the profile.
        stage: stage name.
        name: the finding's name.
        verb: what the stage does, for the title: "Decoding".
        hints: names of optimizations.
        rest_ms: part of the stage that another rule answers for and that would remain.
    """
    time = profile.stage(stage)
    if time.wall_ms <= 0:
        return None
    gains = without(profile, stage, rest_ms)
    if gains.share < MIN_STAGE_SHARE:
        return None
    evidence = {
        f"{stage}_ms": time.wall_ms,
        f"{stage}_cpu_ms": time.cpu_ms,
        "frame_ms": profile.frame_ms,
        f"{stage}_wall_share": time.wall_ms / profile.frame_ms,
        f"{stage}_cpu_share": time.cpu_ms / profile.core_ms if profile.core_ms > 0 else 0.0,
        f"{stage}_cores_used": time.cpu_ms / time.wall_ms,
    }
    title = (
        f"{verb} takes {time.wall_ms:.1f} of {profile.frame_ms:.1f} ms per frame; without it "
        f"frames would come at most {today_gain(profile, gains):.1f} times as fast."
    )
    return Finding(name, title, evidence, gains.share, gains.sequential, gains.pipelined, hints)
