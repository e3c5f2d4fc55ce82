"""The cost model by hand, and what must hold for every system."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from saccade.profile.cost_model import CostModel, StageCost
from saccade.testing.planted import healthy

NAMES = ("decode", "preprocess", "infer", "postprocess")


def model(overlapped: bool = False, cores: int = 2, streams: int = 1, **ms: float) -> CostModel:
    """Stages by wall milliseconds, each keeping one core busy."""
    costs = {name: StageCost(value, value) for name, value in ms.items()}
    return CostModel(costs, cores, overlapped, streams)


@st.composite
def systems(draw: st.DrawFn) -> CostModel:
    cores = draw(st.integers(1, 32))
    costs = {}
    for name in NAMES:
        wall = draw(st.floats(0.01, 1e3))
        costs[name] = StageCost(wall, wall * draw(st.floats(0, 1)) * cores)
    return CostModel(costs, cores, draw(st.booleans()), draw(st.integers(1, 8)))


def test_in_turn_the_stages_add_up() -> None:
    system = model(decode=6, preprocess=2, infer=20, postprocess=2)
    assert system.frame_ms == 30
    assert system.latency_ms == 30


def test_overlapped_the_slowest_thread_decides() -> None:
    # Decode and preprocess share a thread: 8 ms; inference takes 20; the work is 30 on 2 cores.
    system = model(True, decode=6, preprocess=2, infer=20, postprocess=2)
    assert system.frame_ms == 20
    assert system.latency_ms == 30


def test_overlapped_the_cores_limit_all_threads_together() -> None:
    assert model(True, decode=18, infer=20, postprocess=15).frame_ms == pytest.approx(53 / 2)
    assert model(True, cores=1, decode=6, infer=20).frame_ms == 26


def test_more_streams_hide_the_waiting_within_inference() -> None:
    costs = {"infer": StageCost(20, 24), "decode": StageCost(4, 4)}
    assert CostModel(costs, 2, True, streams=1).frame_ms == 20
    assert CostModel(costs, 2, True, streams=2).frame_ms == 14  # all the work on both cores


def test_one_stage_can_be_replaced() -> None:
    system = model(decode=6, infer=20)
    assert system.scaled("infer", 0.5).frame_ms == 16
    assert system.with_stage("track", StageCost(4, 4)).frame_ms == 30
    assert system.frame_ms == 26
    assert system.scaled("infer", 0.5).speedup_over(system) == pytest.approx(26 / 16)


def test_a_system_without_cost_is_infinitely_fast() -> None:
    assert model().speedup_over(model(infer=1)) == float("inf")


def test_a_profile_has_a_cost_model() -> None:
    profile = healthy()
    system = CostModel.of(profile, streams=2)
    assert system.overlapped
    assert system.cores == profile.cores
    assert system.stages["infer"] == StageCost(9, 17)
    assert system.latency_ms == pytest.approx(profile.frame_ms)


@given(systems(), st.sampled_from(NAMES), st.floats(0, 1))
def test_a_cheaper_stage_never_makes_it_slower(system: CostModel, name: str, by: float) -> None:
    faster = system.scaled(name, by)
    assert faster.frame_ms <= system.frame_ms * (1 + 1e-12)
    assume(faster.frame_ms > 0)
    assert faster.speedup_over(system) >= 1 - 1e-12


@given(systems())
def test_overlap_is_never_slower_and_no_faster_than_the_cores(system: CostModel) -> None:
    in_turn = CostModel(system.stages, system.cores, overlapped=False)
    together = CostModel(system.stages, system.cores, overlapped=True, streams=system.streams)
    assert together.frame_ms <= in_turn.frame_ms * (1 + 1e-12)
    work = sum(cost.cpu_ms for cost in system.stages.values()) / system.cores
    assert together.frame_ms >= work * (1 - 1e-12)
    assert together.latency_ms == in_turn.latency_ms
