"""How hard a profiled process pressed on its cores, and whether others did. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from saccade.profile.records import Profile

# Share of the time in which a thread was ready to run but had no core.
MIN_QUEUED_SHARE = 0.15
# The process that crowds the cores itself uses at least this much of them.
MIN_FILLED_SHARE = 0.8


@dataclass(frozen=True)
class CorePressure:
    """How hard the process's threads pressed on the cores while they were watched.

    Attributes:
        seconds: how long; zero without samples.
        switches: involuntary context switches per second and core.
        queued: share of the time its threads wanted to run in which they had no core.
        cores_filled: share of the usable cores' time that the process itself used.
    """

    seconds: float = 0.0
    switches: float = 0.0
    queued: float = 0.0
    cores_filled: float = 0.0

    @property
    def crowded_by_others(self) -> bool:
        """Whether threads queued for cores that this process was not the one to fill."""
        return self.queued > MIN_QUEUED_SHARE and self.cores_filled < MIN_FILLED_SHARE


def core_pressure(profile: Profile) -> CorePressure:
    """The pressure over all of the profile's samples."""
    samples = profile.resources
    seconds = samples[-1].t_s - samples[0].t_s if samples else 0.0
    if seconds <= 0:
        return CorePressure()
    switches = samples[-1].involuntary_switches - samples[0].involuntary_switches
    waited_s = samples[-1].runqueue_wait_s - samples[0].runqueue_wait_s
    ran_s = sum(now.cpu_percent / 100 * (now.t_s - before.t_s) for before, now in pairwise(samples))
    wanted_s = waited_s + ran_s
    return CorePressure(
        seconds=seconds,
        switches=switches / seconds / profile.cores,
        queued=waited_s / wanted_s if wanted_s > 0 else 0.0,
        cores_filled=ran_s / seconds / profile.cores,
    )
