"""Predicted scaling: from compute and communication to samples per second."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.train.scaling import (
    Cost,
    Link,
    StepModel,
    buckets_mb,
    exposed_s,
    fitted_link,
    scaling_point,
)
from saccade.train.scaling_report import ScalingReport

FAST, SLOW = Link(1e-6, 50_000.0), Link(1e-3, 100.0)
GPU = StepModel({1: Cost(0.01, 0.01)}, gradients_mb=100.0)
# Two cores: one thread takes 1.8 times as long as two.
CPU = StepModel({2: Cost(0.01, 0.1), 1: Cost(0.01, 0.18)}, gradients_mb=4.0, cores=2)


@given(st.floats(1e-5, 1e-2), st.floats(50, 5000), st.integers(2, 8))
def test_a_link_is_found_again_from_its_own_times(latency: float, rate: float, world: int) -> None:
    link = Link(latency, rate)
    measured = {size: link.allreduce_s(size, world) for size in (0.1, 1.0, 10.0)}
    found = fitted_link(measured, world)
    assert found.bandwidth_mbs == pytest.approx(rate, rel=1e-3)
    assert found.latency_s == pytest.approx(latency, rel=1e-2, abs=1e-6)


@given(st.floats(0.001, 5000))
def test_buckets_hold_all_gradients(megabytes: float) -> None:
    sizes = buckets_mb(megabytes)
    assert sum(sizes) == pytest.approx(megabytes)
    assert sizes[0] <= 1.05 and max(sizes) <= 26.3


@given(st.floats(0.1, 500), st.floats(0.001, 2), st.integers(2, 16), st.floats(10, 1e5))
def test_what_overlaps_costs_no_more_and_the_last_bucket_never_hides(
    megabytes: float, backward_s: float, world: int, rate: float
) -> None:
    link, sizes = Link(1e-5, rate), buckets_mb(megabytes)
    open_ = exposed_s(sizes, backward_s, world, link, overlaps=False)
    hidden = exposed_s(sizes, backward_s, world, link, overlaps=True)
    assert link.allreduce_s(sizes[-1], world) <= hidden * (1 + 1e-9) + 1e-9
    assert hidden <= open_ * (1 + 1e-9) + 1e-9


def test_compute_bound_work_scales_and_a_slow_link_holds_it_back() -> None:
    fast = {world: scaling_point(GPU, 64, world, FAST) for world in (1, 2, 4, 8)}
    slow = {world: scaling_point(GPU, 64, world, SLOW) for world in (1, 4)}
    assert fast[1].speedup == pytest.approx(1.0)
    assert fast[4].samples_per_s > 3 * fast[1].samples_per_s
    assert slow[4].samples_per_s < fast[4].samples_per_s
    assert fast[8].efficiency < fast[2].efficiency < 1.0


def test_processes_on_one_cpu_use_the_cores_that_one_leaves_idle() -> None:
    two = scaling_point(CPU, 8, 2, FAST)
    # Half of the samples at 0.18 s each, beside the fixed part and averaging 4 MB.
    assert two.compute_s == pytest.approx(0.01 + 4 * 0.18)
    assert two.exposed_s == pytest.approx(FAST.allreduce_s(4.0, 2), rel=0.1)
    assert 1.0 < two.speedup < 2.0


def test_more_processes_than_cores_take_turns() -> None:
    four = scaling_point(CPU, 8, 4, FAST)
    assert four.compute_s == pytest.approx(2 * (0.01 + 2 * 0.18))
    assert four.samples_per_s < scaling_point(CPU, 8, 2, FAST).samples_per_s


def test_contention_slows_those_beside_each_other_alone() -> None:
    crowded = StepModel(CPU.costs, 4.0, cores=2, contention=1.5)
    assert crowded.compute_s(4, 1) == CPU.compute_s(4, 1)
    assert crowded.compute_s(4, 2) == pytest.approx(1.5 * CPU.compute_s(4, 2))
    assert crowded.compute_s(2, 4) == pytest.approx(1.5 * CPU.compute_s(2, 4))


def test_machines_do_not_share_cores() -> None:
    far = scaling_point(CPU, 8, 2, FAST, nodes=2, estimate=True)
    assert far.compute_s == pytest.approx(0.01 + 4 * 0.1)
    assert far.speedup > scaling_point(CPU, 8, 2, FAST).speedup


def test_a_loader_limits_what_processes_can_reach() -> None:
    starved = StepModel(GPU.costs, 100.0, loading=50.0, loaders=2)
    assert scaling_point(starved, 64, 1, FAST).samples_per_s == pytest.approx(50.0)
    assert scaling_point(starved, 64, 2, FAST).samples_per_s == pytest.approx(100.0)
    assert scaling_point(starved, 64, 8, FAST).samples_per_s == pytest.approx(100.0)
    assert scaling_point(starved, 64, 8, FAST, nodes=2).samples_per_s == pytest.approx(200.0)


def test_a_report_can_be_written_down_and_says_what_is_an_estimate() -> None:
    points = [scaling_point(CPU, 8, world, FAST) for world in (1, 2)]
    points.append(scaling_point(CPU, 8, 4, FAST.behind(SLOW), nodes=2, estimate=True))
    report = ScalingReport(
        "0" * 16, 8, CPU, FAST, True, SLOW, tuple(points), {1.0: 1e-3}, {1: 9.0, 2: 10.0}
    )
    document = json.loads(json.dumps(report.document()))
    assert [point["world"] for point in document["points"]] == [1, 2, 4]
    assert document["achieved"]["2"]["error"] == pytest.approx(points[1].samples_per_s / 10 - 1)
    assert document["network"]["measured"] is False
    rows = [line for line in report.table().splitlines() if line.startswith("| ")][1:]
    assert [row.endswith("estimate |") for row in rows] == [False, False, True]
    assert "| 10 |" in rows[1]
