"""Rule: telling people and loggers how the training goes holds steps back."""

from __future__ import annotations

from dataclasses import replace

from saccade.diagnose.records import Finding
from saccade.diagnose.training.costs import output_s
from saccade.diagnose.training.places import places
from saccade.diagnose.training.step_part import step_part
from saccade.train.profile import TrainingProfile

# What to do stands in the title: no configuration of ours changes what a job prints.
ADVICE = "Print and log every so many steps, and keep values on the device until then."


def logging_bound(profile: TrainingProfile) -> Finding | None:
    """Time in prints, handlers of ``logging``, and loggers such as TensorBoard.

    Values of tensors that are asked for in order to be printed are a part of it, and no time of
    `synchronisation`. On a GPU the host has idle time of the device to lose, and no more.
    """
    prints = [sync for sync in profile.syncs if sync.prints and sync.part == "step"]
    evidence = {
        "prints_per_step": sum(sync.per_step for sync in prints),
        "places": float(len(prints)),
    }
    where = f" ({places(prints)})" if prints else ""
    what = f"The job prints and logs in its steps{where}"
    found = step_part(profile, "logging_bound", output_s(profile), what, (), evidence)
    return None if found is None else replace(found, title=f"{found.title} {ADVICE}")
