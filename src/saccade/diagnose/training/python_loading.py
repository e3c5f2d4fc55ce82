"""Rule: one Python process, under its global lock, prepares batches while cores stand idle."""

from __future__ import annotations

from saccade.diagnose.gains import ratio
from saccade.diagnose.records import Finding
from saccade.diagnose.training.costs import MIN_SHARE, LoaderParts, StepCost
from saccade.train.profile import TrainingProfile

HINTS = ("workers", "prefetch", "persistent", "dali")


def python_loading(profile: TrainingProfile) -> Finding | None:
    """Loading in turns with computing, or by fewer workers than there are cores.

    What waits for storage is left to the rule about it; the rest could run on all cores.
    """
    cost, parts = StepCost.of(profile), LoaderParts.of(profile)
    used = 1 - parts.fraction("disk_s", "copy_s")
    share = used * cost.loading_s / cost.step_s if cost.step_s > 0 else 0.0
    if share < MIN_SHARE or cost.workers >= cost.cores:
        return None
    if cost.workers:
        after_s = max(cost.alone_s, cost.loader_s * cost.workers / cost.cores)
    else:
        waits_s = (1 - used) * cost.data_s
        after_s = max(cost.step_s - cost.data_s + waits_s, cost.data_s / cost.cores)
    gain = max(1.0, ratio(cost.step_s, after_s))
    who = f"{cost.workers} loader workers" if cost.workers else "The training process itself"
    verb = "prepare" if cost.workers else "prepares"
    title = (
        f"{who} {verb} the batches, in Python, on a machine of {cost.cores} cores; a step of "
        f"{1e3 * cost.step_s:.1f} ms waits {1e3 * cost.data_s:.1f} ms for its batch. Loaded beside "
        f"computing on all cores, steps would come at most {gain:.1f} times as fast."
    )
    evidence = {
        "loader_workers": float(cost.workers),
        "cores": float(cost.cores),
        "data_wait_ms": 1e3 * cost.data_s,
        "step_ms": 1e3 * cost.step_s,
        "cpu_busy_share": profile.block.busy_share,
    }
    return Finding("python_loading", title, evidence, min(1.0, share), gain, gain, HINTS)
