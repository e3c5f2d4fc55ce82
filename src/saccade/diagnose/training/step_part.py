"""What the rules about time within a step have in common. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from saccade.diagnose.records import Finding
from saccade.diagnose.training.costs import MIN_SHARE, StepCost
from saccade.train.profile import TrainingProfile


def step_part(
    profile: TrainingProfile,
    name: str,
    seconds: float,
    what: str,
    hints: tuple[str, ...],
    evidence: Mapping[str, float],
    least: float = MIN_SHARE,
) -> Finding | None:
    """A finding where ``seconds`` are at least a share ``least`` of the step.

    Args:
        profile: the profile.
        name: the finding's name.
        seconds: of a step that would go away.
        what: the beginning of the title, a clause.
        hints: names of training changes.
        evidence: numbers behind it.
        least: share 0-1.
    """
    cost = StepCost.of(profile)
    gain = cost.without_computing(seconds)
    if gain.share < least:
        return None
    title = (
        f"{what}: {1e3 * seconds:.1f} of a step's {1e3 * cost.step_s:.1f} ms; without that, steps "
        f"would come at most {gain.sequential:.1f} times as fast."
    )
    numbers = {"step_ms": 1e3 * cost.step_s, f"{name}_ms": 1e3 * seconds, **evidence}
    return Finding(name, title, numbers, gain.share, gain.sequential, gain.pipelined, hints)
