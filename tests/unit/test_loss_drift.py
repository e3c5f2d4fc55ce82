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


def test_losses_below_zero_have_the_same_sign_of_worse() -> None:
    a = [curve(s, [-x for x in falling(s)]) for s in range(3)]
    b = [curve(s, [-0.9 * x for x in falling(s)]) for s in range(3)]
    found = drift(a, b)
    assert found.held_out_loss is not None
    assert found.loss.estimate == pytest.approx(0.1)
    assert found.held_out_loss.estimate == pytest.approx(0.1)
    with pytest.raises(DataError, match="no share can be taken"):
        drift([curve(s, [0.0] * 20) for s in range(3)], a)


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
    with pytest.raises(DataError, match=r"number of samples.*160 and 80"):
        drift([curve(0, falling(0))], [curve(0, falling(0, steps=10))])


def larger(seed: int, losses: list[float], batch: int) -> LossCurve:
    block = block_of(2.0, batch=batch)
    return LossCurve(seed, tuple(losses), Evaluation(losses[-1], None, 40), block)


def test_a_larger_batch_is_compared_at_equal_samples() -> None:
    """With as many steps it would see four times the data, and seem to learn better."""
    a = [curve(s, [2 * 0.95**i for i in range(20)]) for s in range(3)]
    # Each step does as much as before, so that a sample does a quarter.
    b = [larger(s, [2 * 0.95**i for i in range(5)], 32) for s in range(3)]
    found = drift(a, b).loss
    later, before = [2 * 0.95**i for i in (2, 3, 4)], [2 * 0.95**i for i in range(8, 20)]
    assert found.estimate == pytest.approx(np.mean(later) / np.mean(before) - 1)
    assert found.within(0.02) is False
    # Steps that do four times as much learn the same from a sample.
    means = [float(np.mean(a[0].losses[4 * i : 4 * i + 4])) for i in range(5)]
    same = drift(a, [larger(s, means, 32) for s in range(3)]).loss
    assert same.estimate == pytest.approx(0)
    with pytest.raises(DataError, match="160 and 640"):
        drift(a, [larger(s, falling(s), 32) for s in range(3)])


def test_samples_may_differ_by_less_than_a_step() -> None:
    a = [curve(s, [1.0] * 21) for s in range(2)]
    assert drift(a, [larger(s, [1.0] * 5, 32) for s in range(2)]).loss.estimate == 0


def test_a_held_out_loss_that_is_not_finite_is_said() -> None:
    a = [curve(s, falling(s)) for s in range(2)]
    broken = LossCurve(1, tuple(falling(1)), Evaluation(math.inf, None, 40), block_of(2.0))
    with pytest.raises(DataError, match="held-out data is not finite, seed 1"):
        drift(a, [a[0], broken])
    assert drift([a[0], broken], a).held_out_loss is None


def test_a_metric_that_is_undefined_bounds_nothing() -> None:
    a = [curve(s, falling(s), 0.5) for s in range(2)]
    assert drift(a, [curve(0, falling(0), 0.5), curve(1, falling(1), math.nan)]).metric is None


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    hits = sum(bounded(random.normal(0.01, 0.005, 3).tolist()).upper >= 0.01 for _ in range(2000))
    assert 0.93 <= hits / 2000 <= 0.97


def test_the_time_to_a_loss_counts_steps_at_the_measured_pace() -> None:
    slow = [curve(0, [3.0, 2.0, 1.0, 1.0, 1.0, 0.5])]
    assert time_to_loss_s(slow, 1.0) == pytest.approx(5 * 4.0)
    assert time_to_loss_s(slow, 0.1) is None
    assert final_loss(slow) == pytest.approx(2.5 / 3)
