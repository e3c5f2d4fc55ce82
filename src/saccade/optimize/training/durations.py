"""How long measurements of a search take, before they are made. Pure."""

from __future__ import annotations

from saccade.optimize.training.runner import RacePlan

# What a worker takes to start, beside warming up.
START_S = 4.0
# Seconds of steps that a screening looks at, after the warm-up.
SCREEN_S = 2.0
# Steps of a warm-up, and of a screening where they are slow; pairs that a race needs in any case.
WARMUP, SLOW_STEPS, PAIRS = 2, 3, 2


def screening_s(cost_s: float, step_s: float) -> float:
    """A configuration measured alone.

    Args:
        cost_s: of making it, such as by compiling.
        step_s: of one of its steps.
    """
    return START_S + cost_s + max(SCREEN_S, SLOW_STEPS * step_s)


def racing_s(cost_s: float, before_s: float, after_s: float) -> float:
    """The shortest race; the worker of what is raced ``after`` runs already.

    Args:
        cost_s: of making the other one.
        before_s: of one of its steps.
        after_s: of one of the steps of what is raced against it.
    """
    block_s = RacePlan().block_s
    pair_s = max(block_s, before_s) + max(block_s, after_s)
    return START_S + cost_s + WARMUP * before_s + PAIRS * pair_s
