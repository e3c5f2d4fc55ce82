"""Goals: what is read, what is refused, and when one is met."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.errors import GoalError
from saccade.goals import METRICS, Goal, parse_goal


@pytest.mark.parametrize(
    ("text", "metric", "op", "bound"),
    [
        ("latency_ms.p99<=20", "latency_ms.p99", "<=", 20.0),
        ("throughput_fps >= 60", "throughput_fps", ">=", 60.0),
        ("peak_rss_mb<=800", "peak_rss_mb", "<=", 800.0),
        ("model_mb<=4", "model_mb", "<=", 4.0),
        ("map50_95_drop<=0.01", "map50_95_drop", "<=", 0.01),
        ("map50>=1", "map50", ">=", 1.0),
        (" agreement_drop<=1e-2 ", "agreement_drop", "<=", 0.01),
    ],
)
def test_goals_of_the_design_are_read(text: str, metric: str, op: str, bound: float) -> None:
    goal = parse_goal(text)
    assert (goal.metric, goal.op, goal.bound) == (metric, op, bound)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fast", "cannot be read"),
        ("throughput_fps>=", "cannot be read"),
        ("throughput_fps>=nan", "cannot be read"),
        ("latency_ms.p99<=20ms", "Units stand in the metric's name"),
        ("throughput_fps>60", "Expected <= or >="),
        ("throughput_fps==60", "Expected <= or >="),
        ("throughput_fps>=6.0.0", "no valid number"),
        ("throughput_fps>=1e999", "too large"),
        ("troughput_fps>=60", "Did you mean 'throughput_fps'"),
        ("map50_95_dorp<=0.01", "Did you mean 'map50_95_drop'"),
        ("throughput_fps<=60", "worse system. Expected throughput_fps>="),
        ("latency_ms.p50>=5", "worse system. Expected latency_ms.p50<="),
        ("map50_drop>=0.01", "worse system. Expected map50_drop<="),
        ("map50_95_drop<=-0.1", "cannot be met"),
        ("top1_drop<=2", "not a percentage. A drop of 2 points is top1_drop<=0.02"),
        ("map50_95>=1.5", "lies in 0 to 1"),
        ("latency_ms.p99<=0", "cannot be met by any system"),
        ("model_mb<=-4", "cannot be met by any system"),
    ],
)
def test_unusable_goals_are_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(GoalError) as caught:
        parse_goal(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_what_a_goal_is_about() -> None:
    drop = parse_goal("map50_95_drop<=0.01")
    assert (drop.base, drop.is_drop, drop.is_accuracy) == ("map50_95", True, True)
    speed = parse_goal("throughput_fps>=60")
    assert (speed.base, speed.is_drop, speed.is_accuracy) == ("throughput_fps", False, False)


@pytest.mark.parametrize(
    ("goal", "value", "low", "high", "status"),
    [
        ("throughput_fps>=60", 70, 65, 75, "met"),
        ("throughput_fps>=60", 62, 58, 66, "inconclusive"),
        ("throughput_fps>=60", 58, 54, 62, "inconclusive"),
        ("throughput_fps>=60", 50, 45, 55, "not_met"),
        ("throughput_fps>=60", 60, 60, 60, "met"),
        ("latency_ms.p99<=20", 15, 14, 16, "met"),
        ("latency_ms.p99<=20", 19, 17, 21, "inconclusive"),
        ("latency_ms.p99<=20", 25, 21, 30, "not_met"),
        ("latency_ms.p99<=20", 15, None, None, "met"),
        ("latency_ms.p99<=20", 15, 14, None, "met"),
        ("latency_ms.p99<=20", None, None, None, "inconclusive"),
        ("map50_95>=0.4", math.nan, math.nan, math.nan, "inconclusive"),
        ("map50_95_drop<=0.01", 0.003, -0.005, 0.02, "inconclusive"),
    ],
)
def test_a_goal_is_met_when_its_whole_interval_meets_it(
    goal: str, value: float | None, low: float | None, high: float | None, status: str
) -> None:
    assert parse_goal(goal).status(value, low, high) == status


def _sensible(metric: str, bound: float) -> Goal:
    if metric.endswith("_drop"):
        return Goal(metric, "<=", bound)
    return Goal(metric, "<=" if METRICS[metric].better == "lower" else ">=", bound)


@given(
    st.sampled_from([*METRICS, *(f"{name}_drop" for name in METRICS)]),
    st.floats(0.001, 1.0, allow_nan=False),
)
def test_a_goal_survives_its_name(metric: str, bound: float) -> None:
    bound = float(f"{bound:g}")
    goal = _sensible(metric, bound)
    assert parse_goal(goal.name) == goal


@given(
    st.floats(-10, 10),
    st.floats(0, 5),
    st.floats(0, 5),
    st.floats(0.1, 5),
    st.sampled_from(["latency_ms.p50", "throughput_fps"]),
)
def test_a_point_within_an_interval_that_decides_decides_the_same(
    value: float, below: float, above: float, bound: float, metric: str
) -> None:
    goal = _sensible(metric, bound)
    status = goal.status(value, value - below, value + above)
    if status != "inconclusive":
        assert goal.status(value, None, None) == status
