"""Rule: the loop waits for single values (``.item()``, prints of tensors)."""

from __future__ import annotations

from saccade.diagnose.records import Finding
from saccade.diagnose.training.costs import StepCost
from saccade.diagnose.training.places import places
from saccade.train.profile import TrainingProfile


def synchronisation(profile: TrainingProfile) -> Finding | None:
    """Places of the user's code in a step that ask for a value; on a GPU in the loader, too.

    On the CPU such a call waits for nothing, so that the bound is what the call itself takes; it
    is named because it costs much once the same job runs on a GPU. Values that are printed or
    logged are named too, but the time is that of `logging_bound`.
    """
    found = [sync for sync in profile.syncs if sync.part == "step" or sync.device != "cpu"]
    found = [sync for sync in found if sync.part != "metric" and not sync.prints]
    if not found:
        return None
    cost = StepCost.of(profile)
    wait_s = sum(sync.wait_ms for sync in found if not sync.within_output) / 1e3
    if profile.device_ms is not None:
        # A value that is waited for is computed meanwhile: only idle time can be won.
        wait_s = min(wait_s, max(0.0, cost.step_s - profile.device_ms / 1e3))
    gain = cost.without_computing(wait_s)
    calls = sum(sync.per_step for sync in found)
    times = "once" if round(calls) == 1 else f"{calls:.0f} times"
    title = f"A step asks for single values {times}: {places(found)}."
    evidence = {"calls_per_step": calls, "places": float(len(found)), "wait_ms": 1e3 * wait_s}
    return Finding("synchronisation", title, evidence, gain.share, gain.sequential, gain.pipelined)
