"""Rule: the loss is not a finite number."""

from __future__ import annotations

import math

from saccade.diagnose.records import Finding
from saccade.train.profile import TrainingProfile


def nonfinite_loss(profile: TrainingProfile) -> Finding | None:
    """The first step, counted from 0, whose loss is NaN or infinite."""
    blocks = [block for block in (profile.warmup, profile.block, profile.synthetic) if block]
    losses = [(block.first_step + k, v) for block in blocks for k, v in enumerate(block.losses)]
    bad = [(step, loss) for step, loss in losses if not math.isfinite(loss)]
    if not bad:
        return None
    first, found = min(bad, key=lambda pair: pair[0])
    before = [loss for step, loss in sorted(losses) if step < first]
    last = f"; it was {before[-1]:.4g} before" if before else ""
    title = (
        f"The loss of step {first} is {found}{last}. From there on nothing is learned: "
        "lower the learning rate, clip gradients, or look at the samples of that step."
    )
    evidence = {
        "step": float(first),
        "nonfinite_steps": float(len(bad)),
        "steps": float(len(losses)),
        **({"loss_before": before[-1]} if before else {}),
    }
    return Finding("nonfinite_loss", title, evidence, 0.0, 1.0, 1.0)
