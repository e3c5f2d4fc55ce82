"""Rule: more threads want to run than there are cores."""

from __future__ import annotations

from saccade.diagnose.gains import MIN_GAIN, infer_scaled, today_gain
from saccade.diagnose.pressure import (
    MIN_FILLED_SHARE,
    MIN_QUEUED_SHARE,
    CorePressure,
    core_pressure,
)
from saccade.diagnose.records import Finding
from saccade.profile.records import Profile

# Involuntary switches per second and core: a thread that computes undisturbed is switched out
# at a few dozen per second by ordinary housekeeping.
MANY_SWITCHES = 200.0

HINTS = ("overlap_stages", "runtime")


def thread_oversubscription(profile: Profile) -> Finding | None:
    """More runtime threads than cores, or threads that queue for cores they keep losing.

    The bound takes all time that surplus threads can cost from inference: ``cores / threads``
    where their number is known, else the time they were seen queueing.
    """
    seen = core_pressure(profile)
    asked = profile.runtime_threads
    surplus = asked is not None and asked > profile.cores
    # Threads that queue while the process does not fill the cores wait for someone else's.
    own_doing = seen.switches > MANY_SWITCHES and (surplus or seen.cores_filled > MIN_FILLED_SHARE)
    queueing = own_doing and seen.queued > MIN_QUEUED_SHARE
    # Without samples the number of threads is all there is to go by; with them, surplus threads
    # that never get into each other's way do no harm.
    if not queueing and not (surplus and (own_doing or seen.seconds <= 0)):
        return None
    factor = profile.cores / asked if asked is not None and surplus else 1 - seen.queued
    gains = infer_scaled(profile, factor)
    if today_gain(profile, gains) < MIN_GAIN:
        return None
    evidence = {
        "cores": float(profile.cores),
        "involuntary_switches_per_s_and_core": seen.switches,
        "queued_share": seen.queued,
        "cores_filled_share": seen.cores_filled,
        "process_threads": float(max((s.threads for s in profile.resources), default=0)),
        "infer_ms": profile.stage("infer").wall_ms,
    }
    if asked is not None:
        evidence["runtime_threads"] = float(asked)
    title = _title(asked if surplus else None, profile.cores, seen)
    share, sequential, pipelined = gains.share, gains.sequential, gains.pipelined
    return Finding("thread_oversubscription", title, evidence, share, sequential, pipelined, HINTS)


def _title(surplus: int | None, cores: int, seen: CorePressure) -> str:
    who = f"{surplus} inference threads" if surplus else "Threads"
    text = f"{who} compete for {cores} {'core' if cores == 1 else 'cores'}"
    if seen.seconds > 0:
        text += (
            f": they are switched out {seen.switches:.0f} times per second and core and spend "
            f"{seen.queued:.0%} of their time queueing"
        )
    return f"{text}."
