"""Every rule is a pure function whose findings make sense, whatever the profile."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade import plugins
from saccade.diagnose.records import Finding
from saccade.profile.records import Profile
from saccade.testing.planted import PLANTED, healthy, planted, stages

RULES = plugins.names("rules")

STAGES = ("decode", "preprocess", "infer", "postprocess")


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """Any system that could exist: no stage uses more CPU time than the cores have."""
    cores = draw(st.integers(1, 64))
    walls = [draw(st.floats(0, 1e4)) for _ in STAGES]
    busy = [draw(st.floats(0, cores)) for _ in STAGES]
    costs = {n: (wall, wall * b) for n, wall, b in zip(STAGES, walls, busy, strict=True)}
    return replace(
        planted(draw(st.sampled_from(sorted(PLANTED)))),
        execution=draw(st.sampled_from(["sequential", "overlapped"])),
        cores=cores,
        stages=stages(**costs),
        runtime_threads=draw(st.none() | st.integers(1, 64)),
    )


def check_finding(rule: str, finding: Finding) -> None:
    assert finding.name == rule
    assert finding.title
    assert 0 <= finding.share <= 1
    assert finding.max_gain_sequential >= 1 - 1e-9
    assert finding.max_gain_pipelined >= 1 - 1e-9
    assert not math.isnan(finding.max_gain_sequential + finding.max_gain_pipelined)
    assert set(finding.hints) <= set(plugins.names("optimizations"))
    assert finding.evidence
    assert all(math.isfinite(value) for value in finding.evidence.values())


@pytest.mark.parametrize("rule", RULES)
@given(profile=profiles())
@settings(max_examples=60, deadline=None)
def test_findings_make_sense(rule: str, profile: Profile) -> None:
    finding = plugins.load("rules", rule)(profile)
    if finding is not None:
        check_finding(rule, finding)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_pure(rule: str) -> None:
    profile = planted(rule)
    before = copy.deepcopy(profile)
    first = plugins.load("rules", rule)(profile)
    assert first is not None
    check_finding(rule, first)
    assert plugins.load("rules", rule)(profile) == first
    assert profile == before


@pytest.mark.parametrize("rule", RULES)
def test_a_healthy_system_is_left_in_peace(rule: str) -> None:
    assert plugins.load("rules", rule)(healthy()) is None
