"""Whether a faster training learns the same: paired by seed, bounded over seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from training_stand_ins import block_of

from saccade.errors import DataError
from saccade.train.records import Evaluation, LossCurve
from saccade.validate.loss_drift import bounded, drift, final_loss, first_bad, time_to_loss_s


def curve(seed: int, losses: list[float], metric: float | None = None) -> LossCurve:
    return LossCurve(seed, tuple(losses), Evaluation(losses[-1], metric, 40), block_of(2.0))


def falling(seed: int, factor: float = 1.0, steps: int = 20) -> list[float]:
    noise = np.random.default_rng(seed).normal(0, 0.02, steps)
    return [factor * float(2 * 0.95**i + n) for i, n in enumerate(noise)]


def test_the_same_curves_do_not_drift() -> None:
    curves = [curve(s, falling(s), 0.5) for s in range(3)]
    found = drift(curves, curves)
    assert found.loss.estimate == found.loss.upper == 0
    assert found.metric is not None and found.metric.within(0.0)


def test_rounding_stays_within_the_tolerance() -> None:
    a = [curve(s, falling(s)) for s in range(3)]
    b = [curve(s, [x * (1 + 1e-3 * (-1) ** s) for x in falling(s)]) for s in range(3)]
    assert drift(a, b).loss.within(0.02)


def test_a_training_that_learns_worse_is_seen() -> None:
    a = [curve(s, falling(s)) for s in range(3)]
    b = [curve(s, falling(s, 1.1)) for s in range(3)]
    found = drift(a, b).loss
    assert found.estimate == pytest.approx(0.1) and found.within(0.02) is False


def test_a_loss_that_differs_by_seed_leaves_it_open() -> None:
    a = [curve(s, falling(s)) for s in range(3)]
    b = [curve(s, falling(s, 1 + 0.06 * (s - 1))) for s in range(3)]
    assert drift(a, b).loss.within(0.02) is None


def test_one_seed_bounds_nothing() -> None:
    assert bounded([0.0]).upper == math.inf


def test_a_loss_that_is_not_finite_is_named_by_step_and_seed() -> None:
    a = [curve(s, falling(s)) for s in range(2)]
    broken = falling(1)
    broken[7] = math.nan
    with pytest.raises(DataError, match="step 7, seed 1"):
        drift(a, [curve(0, falling(0)), curve(1, broken)])
    with pytest.raises(DataError, match="baseline's own loss"):
        drift([curve(0, broken)], [curve(0, falling(0))])
    assert first_bad(broken) == 7


def test_curves_of_other_seeds_or_lengths_do_not_compare() -> None:
    with pytest.raises(DataError, match="same seeds"):
        drift([curve(0, falling(0))], [curve(1, falling(1))])
    with pytest.raises(DataError, match="number of steps"):
        drift([curve(0, falling(0))], [curve(0, falling(0, steps=10))])


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    hits = sum(bounded(random.normal(0.01, 0.005, 3).tolist()).upper >= 0.01 for _ in range(2000))
    assert 0.93 <= hits / 2000 <= 0.97


def test_the_time_to_a_loss_counts_steps_at_the_measured_pace() -> None:
    slow = [curve(0, [3.0, 2.0, 1.0, 1.0, 1.0, 0.5])]
    assert time_to_loss_s(slow, 1.0) == pytest.approx(5 * 4.0)
    assert time_to_loss_s(slow, 0.1) is None
    assert final_loss(slow) == pytest.approx(2.5 / 3)
