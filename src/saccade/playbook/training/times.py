"""Times to what the baseline reaches, of a side's loss curves, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence

from saccade.optimize.metrics import Estimate, mean_of_blocks
from saccade.playbook.training.steps import Curves
from saccade.train.records import LossCurve
from saccade.validate.loss_drift import final_loss, time_to_loss_s
from saccade.validate.time_to_accuracy import held_out_loss_times_s, metric_times_s

# Metrics that only loss curves tell.
TIMES = ("time_to_loss_s", "time_to_held_out_loss_s", "time_to_metric_s")


def learning_times(
    curves: Curves | None, baseline: Curves | None, allowed: float = 0.0
) -> dict[str, Estimate]:
    """Seconds until a side has learnt what the baseline has at the end of its curves.

    Args:
        curves: of the side.
        baseline: says what is to be reached, seed by seed.
        allowed: share by which it may be worse and still count as reached: the drift that the
            user allows, without which rounding alone decides about the last step.

    Returns:
        Metric → seconds of training, without judging; no value where it is never reached.
    """
    if curves is None or baseline is None:
        return {}
    of, to = curves.curves, baseline.curves
    found = (
        _training_loss_times_s(of, to, allowed),
        held_out_loss_times_s(of, to, allowed),
        metric_times_s(of, to, allowed),
    )
    return {
        name: Estimate(None) if times is None else mean_of_blocks(times)
        for name, times in zip(TIMES, found, strict=True)
    }


def _training_loss_times_s(
    curves: Sequence[LossCurve], baseline: Sequence[LossCurve], allowed: float
) -> list[float] | None:
    before = {curve.seed: curve for curve in baseline}
    found = []
    for curve in curves:
        if curve.seed not in before:
            return None
        last = final_loss([before[curve.seed]])
        time_s = time_to_loss_s([curve], last + allowed * abs(last))
        if time_s is None:
            return None
        found.append(time_s)
    return found or None
