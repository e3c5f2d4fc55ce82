"""How much of the held-out data loss curves are judged on, where all of it would take too long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# More and more samples are judged until that takes this share of the time there is.
TRIED, GROWTH = 0.125, 4
# Of what judging takes, at least this share is the samples' own, whatever was measured.
LEAST_SHARE = 1 / 16


@dataclass(frozen=True)
class HeldOut:
    """What loss curves are judged on: the same samples for all that are compared.

    Attributes:
        seconds: that judging once may take.
        samples: of the held-out data; None for all.
    """

    seconds: float = 0.0
    samples: int | None = None


def held_out_within(
    seconds: float, batch: int, judge: Callable[[int], tuple[int, float]]
) -> HeldOut:
    """As many held-out samples as can be judged in ``seconds``, found by judging ever more.

    Judging begins with what does not depend on the number of samples, such as starting workers.

    Args:
        seconds: there are.
        batch: as many are judged at least.
        judge: tries a number of samples; how many there were, and the seconds that took.
    """
    judge(batch)  # warms up
    judged, first_s = judge(batch)
    if judged < batch:
        return HeldOut(seconds)
    if first_s >= seconds:
        return HeldOut(seconds, batch)
    samples, took_s = batch, first_s
    while samples == batch or took_s < TRIED * seconds:
        samples *= GROWTH
        judged, took_s = judge(samples)
        if judged < samples:
            return HeldOut(seconds)
    each_s = max(took_s - first_s, LEAST_SHARE * took_s) / (samples - batch)
    return HeldOut(seconds, max(batch, samples + int((seconds - took_s) / each_s)))
