"""Rule: the device stands idle between many small operators."""

from __future__ import annotations

from saccade.diagnose.records import Finding
from saccade.diagnose.training.costs import computing_s, fixed_share, output_s
from saccade.diagnose.training.operator_kinds import computing_share, is_compiled, moves_memory
from saccade.diagnose.training.step_part import step_part
from saccade.train.profile import TrainingProfile

HINTS = ("compile", "larger_batch", "largest_batch", "fused_optimizer", "channels_last")
LEAST = 0.2
# Fewer operators than this do not keep Python busy.
MIN_LAUNCHES = 30


def launch_bound(profile: TrainingProfile) -> Finding | None:
    """Time of a step on a cached batch in which no operator (on a GPU no kernel) runs.

    It is Python's and PyTorch's own, and so is the time of operators that do next to nothing. On
    the CPU compiled code hides its operators, so that nothing can be said.
    """
    on_gpu = profile.device_ms is not None
    hidden = not on_gpu and any(is_compiled(op) for op in profile.operators)
    if profile.launches < MIN_LAUNCHES or not profile.operators or hidden:
        return None
    alone_ms, said_ms = profile.synthetic.step_ms, 1e3 * output_s(profile)
    # The profiler's own time lies between the operators, and is no merit of removing them.
    stretched = 1 + max(0.0, profile.overhead or 0.0)
    running_ms = profile.device_ms if on_gpu else alone_ms * profile.operators_share * stretched
    # Nothing runs while the job prints and logs, either, which another rule names.
    idle_ms = max(0.0, alone_ms - (running_ms or 0.0) - said_ms)
    if not moves_memory(profile):
        idle_ms += 1e3 * computing_s(profile) * (1 - computing_share(profile))
    if len(profile.scaled_ms) > 1:
        # What more samples would make longer is not Python's.
        idle_ms = min(idle_ms, fixed_share(profile) * max(0.0, alone_ms - said_ms))
    kind = "kernels" if on_gpu else "operators"
    evidence = {
        f"{kind}_per_step": profile.launches,
        f"{kind}_mean_us": 1e3 * max(0.0, alone_ms - said_ms - idle_ms) / profile.launches,
        "idle_ms": idle_ms,
    }
    what = f"Nothing much runs in and between the {profile.launches:.0f} {kind} of a step"
    return step_part(profile, "launch_bound", idle_ms / 1e3, what, HINTS, evidence, LEAST)
