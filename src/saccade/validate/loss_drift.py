"""Does a faster training learn the same? Loss curves of the same seeds and data, compared.

Source of the design: both configurations train from the same weights on the same samples in the
same order with the same augmentation, so each seed gives one paired difference; Student's t over
the seeds bounds their mean. Where one of them takes more samples to a step than the other, it takes
fewer steps: they are compared at equal samples seen, for what a larger batch costs is steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.errors import DataError
from saccade.train.records import Evaluation, LossCurve

# The first samples say how fast the loss falls, the later ones how far: these are compared.
LATER_PART = 0.5
LEVEL = 0.95
# A mean loss that is smaller than this share of the losses it is of is 0 but for noise.
NEAR_ZERO = 1e-3


@dataclass(frozen=True)
class Bounded:
    """A mean difference with one-sided bounds.

    Attributes:
        estimate: candidate against baseline; positive is worse.
        lower: bound from below at ``level``.
        upper: bound from above at ``level``.
        seeds: number of paired trainings.
    """

    estimate: float
    lower: float
    upper: float
    seeds: int
    level: float = LEVEL

    def within(self, allowed: float) -> bool | None:
        """Whether it is at most ``allowed``; None where the seeds cannot tell."""
        if self.upper <= allowed:
            return True
        return None if self.lower <= allowed else False


@dataclass(frozen=True)
class Drift:
    """How differently two configurations learn.

    Attributes:
        loss: relative difference of the mean loss over the later half of the samples.
        metric: drop of the job's metric on held-out data; None where it has none, or where that is
            undefined for one of the trainings.
        held_out_loss: relative difference of the loss on held-out data; None where there are none.
    """

    loss: Bounded
    metric: Bounded | None
    held_out_loss: Bounded | None


def drift(baseline: Sequence[LossCurve], candidate: Sequence[LossCurve]) -> Drift:
    """Compare trainings from the same seeds.

    Raises:
        DataError: seeds differ, one saw more samples than the other (by a step or more), a loss is
            not finite, or the baseline's is 0 on average.
    """
    pairs = _paired(baseline, candidate)
    losses = [_loss_drift(a, b) for a, b in pairs]
    judged = [(a.evaluation, b.evaluation) for a, b in pairs]
    metrics = [a.metric - b.metric for a, b in judged if a and b and _both(a.metric, b.metric)]  # type: ignore[operator]
    held = [(b.loss - a.loss) / abs(a.loss) for a, b in judged if a and b and _comparable(a.loss)]
    return Drift(
        bounded(losses),
        bounded(metrics) if len(metrics) == len(pairs) else None,
        bounded(held) if len(held) == len(pairs) else None,
    )


def bounded(differences: Sequence[float], level: float = LEVEL) -> Bounded:
    """Mean of paired differences with one-sided Student's bounds; one pair bounds nothing."""
    from scipy.stats import t

    values = np.asarray(differences, np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return Bounded(mean, -math.inf, math.inf, len(values), level)
    reach = float(t.ppf(level, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return Bounded(mean, mean - reach, mean + reach, len(values), level)


def _paired(
    baseline: Sequence[LossCurve], candidate: Sequence[LossCurve]
) -> list[tuple[LossCurve, LossCurve]]:
    before = {curve.seed: curve for curve in baseline}
    pairs = [(before[curve.seed], curve) for curve in candidate if curve.seed in before]
    if not pairs or len(pairs) < len(candidate):
        raise DataError("Loss curves compare from the same seeds only.")
    for a, b in pairs:
        if abs(_seen(a) - _seen(b)) >= max(_step_samples(a), _step_samples(b)):
            raise DataError(
                f"Loss curves compare over the same number of samples only, and these are of "
                f"{_seen(a):.0f} and {_seen(b):.0f}."
            )
        if not np.isfinite(a.losses).all():
            raise DataError(
                f"The baseline's own loss is not finite at step "
                f"{first_bad(a.losses)} of seed {a.seed}. Mend the job first."
            )
        if not np.isfinite(b.losses).all():
            raise DataError(f"its loss is not finite at step {first_bad(b.losses)}, seed {b.seed}")
        if _held_out_breaks(a.evaluation, b.evaluation):
            raise DataError(f"its loss on held-out data is not finite, seed {b.seed}")
    return pairs


def _held_out_breaks(before: Evaluation | None, after: Evaluation | None) -> bool:
    """Whether held-out data have a loss before, and none after."""
    if before is None or after is None:
        return False
    return math.isfinite(before.loss) and not math.isfinite(after.loss)


def first_bad(losses: Sequence[float]) -> int:
    """Number of the first step, from 0, whose loss is not finite."""
    return int(np.argmin(np.isfinite(losses)))


def _step_samples(curve: LossCurve) -> float:
    """Samples that make a step, on all processes together."""
    return curve.block.samples / len(curve.block.step_s)


def _seen(curve: LossCurve) -> float:
    """Samples of all steps."""
    return len(curve.losses) * _step_samples(curve)


def _loss_drift(a: LossCurve, b: LossCurve) -> float:
    last, coarse = min(_seen(a), _seen(b)), max(_step_samples(a), _step_samples(b))
    # From where a step of either begins: losses fall within a large one as well.
    first = coarse * int(last / coarse * (1 - LATER_PART))
    losses = np.asarray(a.losses)
    before, after = _mean(a, losses, first, last), _mean(b, np.asarray(b.losses), first, last)
    if abs(before) <= NEAR_ZERO * _mean(a, np.abs(losses), first, last):
        raise DataError(
            f"The baseline's own loss is {before:.3g} on average at the end of seed {a.seed}, of "
            "which no share can be taken. Add a constant to the job's loss, or train shorter "
            "curves with --steps."
        )
    return (after - before) / abs(before)


def _mean(curve: LossCurve, values: NDArray[np.float64], first: float, last: float) -> float:
    """Mean over the samples from the ``first`` to the ``last`` one; steps at the ends in part."""
    each = _step_samples(curve)
    begins = each * np.arange(len(curve.losses))
    inside = np.minimum(begins + each, last) - np.maximum(begins, first)
    return float(np.average(values, weights=np.maximum(inside, 0.0)))


def _comparable(loss: float) -> bool:
    """Whether another can be put in relation to it."""
    return math.isfinite(loss) and loss != 0


def _both(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and math.isfinite(a) and math.isfinite(b)


def time_to_loss_s(curves: Sequence[LossCurve], target: float, window: int = 3) -> float | None:
    """Mean seconds of training until the smoothed loss is at most ``target``; None if never."""
    found = []
    for curve in curves:
        smooth = np.convolve(curve.losses, np.ones(window) / window, mode="valid")
        reached = np.flatnonzero(smooth <= target)
        if not len(reached):
            return None
        steps = int(reached[0]) + window
        found.append(steps * float(np.median(curve.block.step_s)))
    return float(np.mean(found)) if found else None


def final_loss(curves: Sequence[LossCurve], window: int = 3) -> float:
    """Mean of the last losses over seeds."""
    return float(np.mean([np.mean(curve.losses[-window:]) for curve in curves]))
