"""Rule: ``torch.compile`` compiles again and again, or the model falls apart into graphs."""

from __future__ import annotations

import numpy as np

from saccade.diagnose.records import Finding
from saccade.diagnose.training.costs import StepCost
from saccade.train.profile import TrainingProfile

# A step this much longer than the median is taken to have compiled.
SLOW = 1.5


def recompilation(profile: TrainingProfile) -> Finding | None:
    """Graphs compiled after the warm-up, and places where a graph had to end."""
    if not profile.recompilations and not profile.graph_breaks:
        return None
    steps = np.asarray(profile.block.step_s)
    median = float(np.median(steps))
    excess_s = float(sum(step - median for step in steps if step > SLOW * median))
    per_step_s = excess_s / len(steps) if profile.recompilations else 0.0
    gain = StepCost.of(profile).without_computing(per_step_s)
    title = (
        f"torch.compile compiled {profile.recompilations} graphs anew in {len(steps)} steps after "
        f"the warm-up, and the model has {profile.graph_breaks} reasons to end a graph; keep "
        "shapes equal and Python values out of the model."
    )
    evidence = {
        "recompilations": float(profile.recompilations),
        "graph_breaks": float(profile.graph_breaks),
        "compiling_ms_per_step": 1e3 * per_step_s,
    }
    return Finding("recompilation", title, evidence, gain.share, gain.sequential, gain.pipelined)
