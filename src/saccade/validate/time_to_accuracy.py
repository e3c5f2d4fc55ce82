"""How long a training takes to do as well on held-out data as the baseline does at its end. Pure.

Each seed is compared with the baseline's of the same seed. Curves are judged at a few points along
the way, so that the time is known to a part of the curve; what was judged at the end alone bounds
it from above.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from saccade.train.records import Evaluation, LossCurve

# Of an evaluation, a number that is lower where it is better; None where there is none.
Score = Callable[[Evaluation], float | None]


def held_out_loss_times_s(
    curves: Sequence[LossCurve], baseline: Sequence[LossCurve], allowed: float = 0.0
) -> list[float] | None:
    """Seconds of training until the held-out loss is what the baseline ends with, for each seed.

    Args:
        curves: of a configuration.
        baseline: from the same seeds.
        allowed: share by which it may be worse and still count as reached.

    Returns:
        None where a seed never gets there, or the baseline was not judged.
    """
    return _times(curves, baseline, lambda found: found.loss, allowed)


def metric_times_s(
    curves: Sequence[LossCurve], baseline: Sequence[LossCurve], allowed: float = 0.0
) -> list[float] | None:
    """Seconds of training until the job's metric is what the baseline ends with, for each seed.

    See `held_out_loss_times_s` for the arguments.

    Returns:
        None where a seed never gets there, or there is no metric.
    """
    return _times(curves, baseline, _metric, allowed)


def _metric(found: Evaluation) -> float | None:
    return None if found.metric is None else -found.metric


def _times(
    curves: Sequence[LossCurve], baseline: Sequence[LossCurve], score: Score, allowed: float
) -> list[float] | None:
    ends = {c.seed: score(c.evaluation) for c in baseline if c.evaluation is not None}
    found = []
    # Those that were judged at their end alone would make the mean longer than it is.
    for curve in [curve for curve in curves if curve.along] or curves:
        target = ends.get(curve.seed)
        if target is None:
            return None
        least = target + allowed * abs(target)
        scores = [(steps, score(judged)) for steps, judged in _judged(curve)]
        steps = next((at for at, value in scores if value is not None and value <= least), None)
        if steps is None:
            return None
        found.append(steps * float(np.median(curve.block.step_s)))
    return found or None


def _judged(curve: LossCurve) -> list[tuple[int, Evaluation]]:
    """After how many steps it was judged, and how, in order."""
    along = [(judged.steps, judged.evaluation) for judged in curve.along]
    end = [] if curve.evaluation is None else [(len(curve.losses), curve.evaluation)]
    return along + end
