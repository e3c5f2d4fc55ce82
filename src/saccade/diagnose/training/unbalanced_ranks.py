"""Rule: processes that train together wait for the slowest of them."""

from __future__ import annotations

import statistics

from saccade.diagnose.gains import ratio
from saccade.diagnose.records import Finding
from saccade.diagnose.training.costs import MIN_SHARE, StepCost
from saccade.train.profile import TrainingProfile


def unbalanced_ranks(profile: TrainingProfile) -> Finding | None:
    """The slowest rank against the mean of all."""
    ranks = profile.ranks_ms
    if len(ranks) < 2 or max(ranks) <= 0:
        return None
    slowest, mean = max(ranks), statistics.fmean(ranks)
    step_ms = max(slowest, 1e3 * StepCost.of(profile).step_s)
    share = (slowest - mean) / step_ms
    if share < MIN_SHARE:
        return None
    gain = max(1.0, ratio(step_ms, step_ms - (slowest - mean)))
    title = (
        f"Rank {ranks.index(slowest)} takes {slowest:.1f} ms for its part of a step and the ranks "
        f"take {mean:.1f} ms on average; balanced, steps would come at most {gain:.2f} times as "
        "fast."
    )
    evidence = {
        "slowest_ms": slowest,
        "mean_ms": mean,
        "fastest_ms": min(ranks),
        "step_ms": step_ms,
    }
    return Finding("unbalanced_ranks", title, evidence, share, gain, gain)
