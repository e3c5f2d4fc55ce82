from __future__ import annotations

import json

import pytest

from saccade.profile.records import Roofline
from saccade.profile.roofline import best_time_s, fast_paths, from_dict, measure_roofline, to_dict
from saccade.testing.fake_clock import FakeClock


def test_best_of_each_precision_and_only_fast_paths() -> None:
    found = [("fp32", 90.0), ("fp32", 100.0), ("bf16", 110.0), ("int8", 80.0), ("int8", 400.0)]
    assert fast_paths(found) == {"fp32": 100.0, "int8": 400.0}


def test_shortest_time_wins_and_the_warm_up_does_not_count() -> None:
    clock = FakeClock()
    durations = iter([0.001, 0.5, 0.2, 0.4, 0.9])
    assert best_time_s(lambda: clock.advance(next(durations)), 1.0, clock) == pytest.approx(0.2)


def test_at_least_three_repeats_even_when_time_is_up() -> None:
    clock = FakeClock()
    durations = iter([9.0, 3.0, 2.0, 1.0])
    assert best_time_s(lambda: clock.advance(next(durations)), 0.0, clock) == pytest.approx(1.0)


def test_round_trip_through_json() -> None:
    roofline = Roofline({"fp32": 1.5, "int8": 6.0}, 20.0, 0.3)
    document = json.loads(json.dumps(to_dict(roofline)))
    assert document["schema_version"] == 1
    assert from_dict({**document, "added_later": 1}) == roofline


def test_this_machine_is_measured() -> None:
    roofline = measure_roofline(budget_s=0.2)
    assert roofline.peak_gflops["fp32"] > 0
    assert set(roofline.peak_gflops) <= {"fp32", "bf16", "int8"}
    assert all(
        v > roofline.peak_gflops["fp32"] for k, v in roofline.peak_gflops.items() if k != "fp32"
    )
    assert roofline.bandwidth_gbs > 0
    assert roofline.dispatch_us > 0
