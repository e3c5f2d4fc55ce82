"""Statistics: what a sample supports, and what it does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.errors import SaccadeError
from saccade.statistics import (
    Interval,
    TooFewSamples,
    bonferroni_level,
    compare,
    holm,
    labels_needed,
    noise_floor,
    percentile,
    percentile_interval,
    ratio_of_blocks,
    samples_for_percentile,
    warmup_end,
)

positive = st.floats(0.1, 1000.0)
blocks = st.lists(st.tuples(positive, positive), min_size=2, max_size=12)


@pytest.mark.parametrize(
    ("q", "needed"), [(50, 2), (95, 20), (99, 100), (99.9, 1000), (5, 20), (1, 100)]
)
def test_percentile_refuses_a_sample_that_cannot_support_it(q: float, needed: int) -> None:
    assert samples_for_percentile(q) == needed
    assert percentile(range(needed), q) == pytest.approx(q / 100 * (needed - 1))
    with pytest.raises(TooFewSamples, match=f"needs at least {needed}") as caught:
        percentile(range(needed - 1), q)
    assert isinstance(caught.value, SaccadeError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("q", [0, 100, -1, 101, math.nan])
def test_percentile_out_of_range(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 100"):
        percentile([1.0] * 1000, q)


def test_percentile_interval_of_a_known_sample() -> None:
    # For n=10 and the median, orders 2 and 9 cover 1 - 2 * 11/1024 = 97.9%.
    assert percentile_interval(range(1, 11), 50) == Interval(2.0, 9.0, 0.95)


def test_percentile_interval_is_infinite_where_the_sample_cannot_bound_it() -> None:
    interval = percentile_interval(range(100), 99)
    assert interval.high == math.inf
    assert interval.low > 90
    assert percentile_interval([1.0], 50) == Interval(-math.inf, math.inf, 0.95)
    with pytest.raises(TooFewSamples):
        percentile_interval([], 50)


def test_percentile_interval_covers() -> None:
    generator = np.random.default_rng(1)
    truth = -math.log(0.1)
    held = [truth in percentile_interval(generator.exponential(size=80), 90) for _ in range(400)]
    assert np.mean(held) >= 0.93


@given(st.lists(st.floats(-1e6, 1e6), min_size=20, max_size=200))
def test_percentile_lies_in_its_interval(samples: list[float]) -> None:
    interval = percentile_interval(samples, 90)
    assert interval.low <= percentile(samples, 90) <= interval.high


@given(blocks)
@settings(max_examples=30, deadline=None)
def test_ratio_interval_holds_the_ratio_and_turns_over(pairs: list[tuple[float, float]]) -> None:
    a, b = [p[0] for p in pairs], [p[1] for p in pairs]
    ratio, inverse = ratio_of_blocks(a, b), ratio_of_blocks(b, a)
    assert ratio.value * inverse.value == pytest.approx(1)
    assert ratio.interval.low <= ratio.value * (1 + 1e-12)
    assert ratio.interval.high >= ratio.value * (1 - 1e-12)
    assert ratio.pairs == len(pairs)


def test_drift_shared_by_a_pair_cancels() -> None:
    drift = np.array([100.0, 60.0, 30.0, 80.0])
    ratio = ratio_of_blocks(2 * drift, drift)
    assert ratio.value == pytest.approx(2)
    assert ratio.interval.width == pytest.approx(0, abs=1e-9)


def test_one_disturbed_pair_does_not_move_the_ratio() -> None:
    a = np.array([20.1, 19.9, 20.0, 20.2, 19.8, 5.0])
    ratio = ratio_of_blocks(a, np.full(6, 10.0))
    assert ratio.value == pytest.approx(2, rel=0.02)
    assert ratio.interval.low > 1.8


def test_one_pair_bounds_nothing() -> None:
    ratio = ratio_of_blocks([2.0], [1.0])
    assert ratio.value == pytest.approx(2)
    assert ratio.interval == Interval(0.0, math.inf, 0.95)
    assert compare([2.0], [1.0], 0.0).verdict == "not distinguishable"


@pytest.mark.parametrize("pairs", [3, 5, 8])
def test_ratio_interval_covers_with_few_pairs(pairs: int) -> None:
    generator = np.random.default_rng(pairs)
    held = [
        1.0 in ratio_of_blocks(np.exp(generator.normal(0, 0.1, pairs)), np.ones(pairs)).interval
        for _ in range(150)
    ]
    assert np.mean(held) >= 0.9


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_throughput_must_be_positive(bad: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        ratio_of_blocks([1.0, bad], [1.0, 1.0])


def test_blocks_must_pair() -> None:
    with pytest.raises(ValueError, match="pairs"):
        ratio_of_blocks([1.0, 2.0], [1.0])
    with pytest.raises(TooFewSamples):
        ratio_of_blocks([], [])


def test_compare_names_a_clear_winner() -> None:
    fast, slow = [30.0, 31.0, 29.5, 30.2], [20.0, 20.5, 19.9, 20.1]
    assert compare(fast, slow, 0.05).verdict == "faster"
    assert compare(slow, fast, 0.05).verdict == "slower"
    assert "cannot resolve" in compare(fast, slow, 0.6).reason
    assert compare(fast, slow, 0.6).verdict == "not distinguishable"
    assert compare(fast, slow, math.inf).verdict == "not distinguishable"
    with pytest.raises(ValueError, match="resolution"):
        compare(fast, slow, -0.1)


def test_a_against_a_has_no_winner() -> None:
    same = [30.0, 31.0, 29.5, 30.2]
    assert compare(same, same, 0.0).verdict == "not distinguishable"
    generator = np.random.default_rng(4)
    wrong = 0
    for _ in range(60):
        floor = noise_floor([tuple(row) for row in np.exp(generator.normal(0, 0.1, (5, 2)))])
        a, b = np.exp(generator.normal(0, 0.1, (2, 5)))
        wrong += compare(a, b, floor).verdict != "not distinguishable"
    assert wrong <= 3


def test_noise_floor() -> None:
    assert noise_floor([(5.0, 5.0)] * 4) == 0.0
    assert noise_floor([(5.0, 5.0)]) == math.inf
    assert noise_floor([(1.0, 1.2), (1.1, 1.0), (1.0, 0.9)]) > 0.1


def test_warmup_ends_where_the_samples_settle() -> None:
    generator = np.random.default_rng(0)
    steady = generator.normal(10, 0.2, 80)
    assert warmup_end([*(50, 40, 30, 25, 20), *steady]) == 5
    assert 15 <= warmup_end([*np.linspace(40, 12, 20), *steady]) <= 25
    assert warmup_end([7.0] * 40) == 0
    assert warmup_end([0.1 + 0.2] * 7) == 0


def test_warmup_that_has_not_ended() -> None:
    assert warmup_end(list(range(100, 0, -1))) == 100
    assert warmup_end([3.0, 2.0]) == 2
    assert warmup_end([]) == 0


def test_one_slow_frame_is_not_a_warmup() -> None:
    samples = [10.0, 10.1, 9.9, 10.05] * 15
    samples[22] = 500.0
    assert warmup_end(samples) <= 5


@given(st.lists(st.floats(0, 1e6), max_size=100))
def test_warmup_end_is_an_index(samples: list[float]) -> None:
    end = warmup_end(samples)
    assert end == len(samples) or 0 <= end <= len(samples) // 2


def test_labels_needed_grows_with_the_square_of_the_width() -> None:
    assert labels_needed(64, 0.0, 0.02, 0.01) == 256
    assert labels_needed(64, 0.005, 0.02, 0.01) == 576
    assert labels_needed(64, 0.0, 0.005, 0.01) == 64
    assert labels_needed(64, 0.01, 0.02, 0.01) is None
    assert labels_needed(64, 0.0, math.inf, 0.01) is None


@given(st.integers(2, 5000), st.floats(-0.1, 0.1), st.floats(1e-3, 0.1), st.floats(-0.1, 0.1))
def test_labels_needed_is_enough(n: int, estimate: float, half: float, allowed: float) -> None:
    needed = labels_needed(n, estimate, estimate + half, allowed)
    if needed is None:
        assert allowed - estimate <= half / 1000
    else:
        assert needed >= n
        assert estimate + half * math.sqrt(n / needed) <= allowed + 1e-9


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).shape == (0,)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_lies_between_none_and_bonferroni(values: list[float]) -> None:
    p, adjusted = np.array(values), holm(values)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(p * len(p), 1) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_bonferroni_level() -> None:
    assert bonferroni_level(0.95, 1) == pytest.approx(0.95)
    assert bonferroni_level(0.95, 0) == pytest.approx(0.95)
    assert bonferroni_level(0.95, 5) == pytest.approx(0.99)
