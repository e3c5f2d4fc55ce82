"""Intervals, paired comparisons and sample sizes. Pure: samples in, values out.

A figure that the sample cannot support is refused (`TooFewSamples`) or has an infinite bound,
instead of being extrapolated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from saccade.errors import SaccadeError

Verdict = Literal["faster", "slower", "not distinguishable"]

_RESAMPLES = 2000
_TRIM = 0.2
# A bound this many times too wide would take a million times the labels.
_HOPELESS = 1e3


class TooFewSamples(SaccadeError, ValueError):  # noqa: N818 - says what is wrong, as ValueError does
    """The sample is too small for what was asked of it."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval; an end that the sample cannot bound is infinite.

    Attributes:
        low: lower end.
        high: upper end.
        level: coverage, 0-1.
    """

    low: float
    high: float
    level: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def width(self) -> float:
        """Length of the interval."""
        return self.high - self.low


def samples_for_percentile(q: float) -> int:
    """The smallest sample of which at least one value is expected beyond the q-th percentile.

    Raises:
        ValueError: ``q`` is not between 0 and 100.
    """
    if not 0 < q < 100:
        raise ValueError(f"percentile {q} must lie between 0 and 100, both excluded")
    # Rounded first: 100 / (100 - 99.9) is 1000.0000000000568.
    return math.ceil(round(100 / min(q, 100 - q), 6))


def percentile(samples: Sequence[float], q: float) -> float:
    """The q-th percentile, by linear interpolation between order statistics.

    Raises:
        TooFewSamples: fewer than 1 / (1 - q/100) samples (for q below 50: 1 / (q/100)), so the
            answer would be the extreme value under another name.
        ValueError: ``q`` is not between 0 and 100.
    """
    needed = samples_for_percentile(q)
    if len(samples) < needed:
        raise TooFewSamples(
            f"p{q:g} cannot be told from {len(samples)} samples. It needs at least {needed}; "
            "measure longer or ask for a lower percentile."
        )
    return float(np.percentile(np.asarray(samples, np.float64), q))


def percentile_interval(samples: Sequence[float], q: float, level: float = 0.95) -> Interval:
    """Confidence interval of the q-th percentile from order statistics.

    Free of any assumption on the distribution: the number of samples below the true percentile
    is binomial, which says between which two order statistics it lies. Coverage is at least
    ``level`` for independent samples; frames that follow each other are not quite independent,
    so it is somewhat optimistic for slow drifts. An end is infinite where the sample is too
    small to bound it. Source: David and Nagaraja, "Order Statistics" (2003), section 7.1.

    Raises:
        TooFewSamples: there is no sample.
        ValueError: ``q`` or ``level`` is out of range.
    """
    from scipy.stats import binom

    samples_for_percentile(q)
    _check_level(level)
    ordered = np.sort(np.asarray(samples, np.float64))
    count = len(ordered)
    if count == 0:
        raise TooFewSamples("A percentile's interval needs at least one sample; there is none.")
    tail = (1 - level) / 2
    below = int(binom.ppf(tail, count, q / 100))
    above = int(binom.ppf(1 - tail, count, q / 100)) + 1
    low = float(ordered[below - 1]) if below >= 1 else -math.inf
    high = float(ordered[above - 1]) if above <= count else math.inf
    return Interval(low, high, level)


@dataclass(frozen=True)
class RatioEstimate:
    """How many times as fast the first is as the second.

    Attributes:
        value: the estimate.
        interval: of the ratio, multiplicative around ``value``.
        pairs: number of interleaved pairs behind it.
    """

    value: float
    interval: Interval
    pairs: int


def ratio_of_blocks(
    a: Sequence[float], b: Sequence[float], level: float = 0.95, seed: int = 0
) -> RatioEstimate:
    """Ratio a/b of throughputs measured in interleaved pairs: a[i] ran next to b[i].

    Each pair gives one log ratio, so drift that both halves of a pair share cancels (Kalibera and
    Jones, "Rigorous Benchmarking in Reasonable Time", 2013). The estimate is their mean without
    the smallest and largest fifth (nothing is dropped below five pairs), so one disturbed pair
    among five or more does not move it far.

    The interval is the wider of two at each end. (1) Student's t for the trimmed mean with the
    winsorized standard deviation (Tukey and McLaughlin, 1963; Wilcox, "Introduction to Robust
    Estimation and Hypothesis Testing", section 4.3); with fewer than five pairs this is the
    ordinary t interval. (2) The percentile bootstrap of the winsorized mean, which follows a
    skewed sample. The bootstrap alone is too narrow for the three to eight pairs that a trial can
    afford, by sqrt((n-1)/n) and by using normal instead of t quantiles (Hesterberg, "What
    Teachers Should Know About the Bootstrap", 2015). It draws winsorized values because a
    resample that repeats one disturbed pair would get past the trimming. For normal log ratios
    nominal 95% covers 95% at three and four pairs, 93% at five and six, 94% at eight; what is
    missing there, `compare` makes up for by the noise floor. One pair bounds nothing.

    Args:
        a: frames per second of each block, positive.
        b: the same of its partner.
        level: coverage of the interval.
        seed: of the bootstrap.

    Raises:
        TooFewSamples: there is no pair.
        ValueError: lengths differ, or a throughput is not positive and finite.
    """
    _check_level(level)
    logs = _log_ratios(a, b)
    cut = int(_TRIM * len(logs))
    kept = np.sort(logs)[cut : len(logs) - cut]
    centre = float(kept.mean())
    if len(logs) == 1:
        return RatioEstimate(math.exp(centre), Interval(0.0, math.inf, level), 1)
    winsorized = np.clip(logs, kept[0], kept[-1])
    student = _student_interval(winsorized, centre, len(kept), level)
    drawn = _bootstrap_interval(winsorized, level, seed)
    interval = Interval(
        low=math.exp(min(student[0], drawn[0])), high=_exp(max(student[1], drawn[1])), level=level
    )
    return RatioEstimate(math.exp(centre), interval, len(logs))


def _log_ratios(a: Sequence[float], b: Sequence[float]) -> NDArray[np.float64]:
    if len(a) != len(b):
        raise ValueError(f"blocks must come in pairs, got {len(a)} and {len(b)}")
    if not len(a):
        raise TooFewSamples("A ratio needs at least one pair of blocks; there is none.")
    both = np.asarray([a, b], np.float64)
    if not (np.isfinite(both) & (both > 0)).all():
        raise ValueError("throughputs must be positive and finite")
    logs: NDArray[np.float64] = np.log(both[0]) - np.log(both[1])
    return logs


def _student_interval(
    winsorized: NDArray[np.float64], centre: float, kept: int, level: float
) -> tuple[float, float]:
    from scipy.stats import t

    error = float(winsorized.std(ddof=1)) * math.sqrt(len(winsorized)) / kept
    reach = float(t.ppf((1 + level) / 2, kept - 1)) * error
    return centre - reach, centre + reach


def _bootstrap_interval(
    values: NDArray[np.float64], level: float, seed: int
) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    drawn = values[generator.integers(0, len(values), (_RESAMPLES, len(values)))]
    low, high = np.quantile(drawn.mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


@dataclass(frozen=True)
class Comparison:
    """Whether the first is faster than the second.

    Attributes:
        verdict: of the first against the second.
        ratio: first over second.
        resolution: smallest relative difference this machine can resolve now.
        reason: one clause for a person.
    """

    verdict: Verdict
    ratio: RatioEstimate
    resolution: float
    reason: str


def noise_floor(
    aa_pairs: Sequence[tuple[float, float]], level: float = 0.95, seed: int = 0
) -> float:
    """The smallest relative difference that can be resolved, from A measured against itself.

    It is the far end of the interval of the A/A ratio, as a fraction: 0.05 means that anything
    within 5% may be noise. It includes what the order within a pair does. Infinite for one pair.

    Raises:
        TooFewSamples: there is no pair.
        ValueError: a throughput is not positive and finite.
    """
    ratio = ratio_of_blocks([a for a, _ in aa_pairs], [a for _, a in aa_pairs], level, seed)
    if ratio.interval.low <= 0:
        return math.inf
    return max(ratio.interval.high, 1 / ratio.interval.low) - 1


def compare(
    a_blocks: Sequence[float],
    b_blocks: Sequence[float],
    resolution: float,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Say whether ``a`` is faster than ``b``, slower, or not distinguishable from it.

    A difference counts if the interval of the ratio leaves out 1 and the ratio itself lies
    outside the noise floor.

    Args:
        a_blocks: throughput of each block of the candidate.
        b_blocks: of the block of the reference next to it.
        resolution: from `noise_floor`, as a fraction.
        level: of the interval.
        seed: of the bootstrap.

    Raises:
        TooFewSamples: there is no pair.
        ValueError: lengths differ, a throughput is not positive, or the resolution is negative.
    """
    if not resolution >= 0:
        raise ValueError(f"resolution {resolution} must be at least 0")
    ratio = ratio_of_blocks(a_blocks, b_blocks, level, seed)
    spread = f"{ratio.value:.3f} [{ratio.interval.low:.3f}, {ratio.interval.high:.3f}]"
    if 1.0 in ratio.interval:
        reason = f"the interval of the ratio includes 1: {spread}"
        return Comparison("not distinguishable", ratio, resolution, reason)
    if abs(math.log(ratio.value)) <= math.log1p(resolution):
        reason = f"{spread} is within the {resolution:.1%} that this machine cannot resolve now"
        return Comparison("not distinguishable", ratio, resolution, reason)
    verdict: Verdict = "faster" if ratio.value > 1 else "slower"
    return Comparison(verdict, ratio, resolution, f"ratio {spread} over {ratio.pairs} pairs")


def warmup_end(samples: Sequence[float]) -> int:
    """Index from which the samples are stable; ``len(samples)`` if they are not stable yet.

    The MSER rule (White, "An Effective Truncation Heuristic for Bias Reduction in Simulation
    Output", 1997): of all cuts in the first half, the one that makes the standard error of the
    mean of the rest smallest. It works on medians of five neighbours, so that a single slow
    frame is not taken for the end of the warm-up (on the samples themselves below 20 of them).
    A smallest error at the last cut allowed means that a trend still runs.
    """
    values = np.asarray(samples, np.float64)
    size = 5 if len(values) >= 20 else 1
    batches = np.median(values[: len(values) // size * size].reshape(-1, size), axis=1)
    count = len(batches)
    if count < 4:
        return len(values)
    cuts = np.arange(count // 2 + 1)
    errors = np.array([batches[cut:].var() / (count - cut) for cut in cuts])
    # Values equal but for rounding have no warm-up, wherever the smallest rounding error lies.
    floor = (np.abs(batches).max() * 1e-9) ** 2
    best = int(np.argmax(errors <= max(errors.min(), floor)))
    return len(values) if best == cuts[-1] else best * size


def labels_needed(n: int, estimate: float, upper: float, allowed: float) -> int | None:
    """How many labelled images would bring an upper bound down to what is allowed.

    Assumes that the estimate stays and that the half-width shrinks with the square root of the
    number of images.

    Args:
        n: images behind the present bound.
        estimate: the present estimate of the drop.
        upper: its present upper bound.
        allowed: the drop allowed.

    Returns:
        The number of images in all (at least ``n``); None if no number would do, because the
        estimate itself is not below what is allowed or the bound is infinite.
    """
    if upper <= allowed:
        return n
    if estimate >= allowed or not math.isfinite(upper):
        return None
    shrink = (upper - estimate) / (allowed - estimate)
    return math.ceil(n * shrink**2) if shrink < _HOPELESS else None


def bonferroni_level(level: float, comparisons: int) -> float:
    """The level at which each of several statements must hold for all to hold at ``level``."""
    _check_level(level)
    return 1 - (1 - level) / max(1, comparisons)


def holm(p_values: Iterable[float]) -> NDArray[np.float64]:
    """P-values adjusted so that rejecting those below alpha keeps the family-wise error at alpha.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (1979).

    Returns:
        ``(m,)`` float64 in the order given, each at least its own p-value and at most 1.
    """
    values = np.asarray(list(p_values), np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level {level} must lie between 0 and 1")
