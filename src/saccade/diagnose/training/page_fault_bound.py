"""Rule: the kernel provides memory for tensors again in every step."""

from __future__ import annotations

from saccade.diagnose.records import Finding
from saccade.diagnose.training.costs import faults_s
from saccade.diagnose.training.step_part import step_part
from saccade.train.profile import TrainingProfile

HINTS = ("keep_memory", "autocast", "channels_last", "compile")


def page_fault_bound(profile: TrainingProfile) -> Finding | None:
    """Time in the kernel for pages that the allocator gave back the step before."""
    synthetic = profile.synthetic
    faults = synthetic.page_faults / max(1, len(synthetic.step_s))
    evidence = {
        "page_faults_per_step": faults,
        "kernel_share_of_cpu": synthetic.kernel_s / max(synthetic.cpu_s, 1e-9),
    }
    what = (
        f"The kernel maps and clears memory for tensors again in every step ({faults:,.0f} pages)"
    )
    return step_part(profile, "page_fault_bound", faults_s(profile), what, HINTS, evidence)
