"""Predicted scaling: from compute and communication to samples per second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.train.scaling import Link, StepModel, fitted_link, scaling_curve

FAST, SLOW = Link(1e-6, 50_000.0), Link(1e-3, 100.0)
GPU = StepModel(fixed_s=0.01, sample_s=0.01, gradients_mb=100.0, shares_cores=False)


@given(st.floats(1e-5, 1e-2), st.floats(50, 5000), st.integers(2, 8))
def test_a_link_is_found_again_from_its_own_times(latency: float, rate: float, world: int) -> None:
    link = Link(latency, rate)
    measured = {size: link.allreduce_s(size, world) for size in (0.1, 1.0, 10.0)}
    found = fitted_link(measured, world)
    assert found.bandwidth_mbs == pytest.approx(rate, rel=1e-3)
    assert found.latency_s == pytest.approx(latency, rel=1e-2, abs=1e-6)


def test_compute_bound_work_scales_and_a_slow_link_holds_it_back() -> None:
    fast = {p.world: p for p in scaling_curve(GPU, 64, (1, 2, 4, 8), FAST)}
    slow = {p.world: p for p in scaling_curve(GPU, 64, (1, 2, 4, 8), SLOW)}
    assert fast[1].efficiency == pytest.approx(1.0)
    assert fast[4].samples_per_s > 3 * fast[1].samples_per_s
    assert slow[4].samples_per_s < fast[4].samples_per_s
    assert fast[8].efficiency < fast[2].efficiency < 1.0


def test_processes_on_one_cpu_share_its_cores() -> None:
    cpu = StepModel(0.01, 0.1, 4.0, shares_cores=True)
    points = {p.world: p for p in scaling_curve(cpu, 8, (1, 2), FAST)}
    assert points[2].samples_per_s <= points[1].samples_per_s


def test_machines_do_not_share_cores() -> None:
    cpu = StepModel(0.0, 0.1, 4.0, shares_cores=True)
    points = {p.world: p for p in scaling_curve(cpu, 8, (1, 2), FAST, per_node=1)}
    assert points[2].nodes == 2
    assert points[2].samples_per_s == pytest.approx(2 * points[1].samples_per_s, rel=0.05)
