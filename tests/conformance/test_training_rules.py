"""Every rule about trainings is a pure function whose findings make sense, whatever the profile."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade import plugins
from saccade.diagnose.records import Finding
from saccade.diagnose.training import diagnose_training
from saccade.testing.planted_training import (
    PLANTED,
    healthy_training,
    planted_training,
    training_block,
)
from saccade.train.profile import TrainingProfile

RULES = plugins.names("training_rules")
# Findings that are true of any training, or that stand beside what they are about.
LAST_RESORT = {"compute_bound"}
# What is named for its own sake, and gains nothing in time.
NO_GAIN = {"memory_capacity"}


@st.composite
def profiles(draw: st.DrawFn) -> TrainingProfile:
    """Any training that could exist."""
    base = planted_training(draw(st.sampled_from(sorted(PLANTED))))
    ms = st.floats(0, 1e4)
    parts = {name: draw(ms) for name in ("data", "copy", "forward", "backward", "optimizer")}
    assert base.config is not None
    return replace(
        base,
        block=replace(base.block, **_times(parts)),
        synthetic=replace(base.synthetic, **_times({**parts, "data": 0.0})),
        effective_cores=draw(st.integers(1, 64)),
        config=base.config.with_loader(workers=draw(st.integers(0, 8))),
        operators_share=draw(st.floats(0, 1)),
        overhead=draw(st.none() | st.floats(-0.9, 10)),
        scaled_ms={8: draw(ms), 32: draw(ms)},
        loader=base.loader if draw(st.booleans()) else None,
    )


def _times(parts: dict[str, float]) -> dict[str, object]:
    block = training_block(loss=0.5, **parts)
    return {"step_s": block.step_s, "part_s": block.part_s}


def check_finding(rule: str, finding: Finding) -> None:
    assert finding.name == rule
    assert finding.title
    assert 0 <= finding.share <= 1
    assert finding.max_gain_sequential >= 1 - 1e-9
    assert finding.max_gain_pipelined >= finding.max_gain_sequential - 1e-9
    assert finding.evidence
    assert all(math.isfinite(value) for value in finding.evidence.values())
    json.dumps(finding.document(), allow_nan=False)


@pytest.mark.parametrize("rule", RULES)
@given(profile=profiles())
@settings(max_examples=40, deadline=None)
def test_findings_make_sense(rule: str, profile: TrainingProfile) -> None:
    finding = plugins.load("training_rules", rule)(profile)
    if finding is not None:
        check_finding(rule, finding)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_pure(rule: str) -> None:
    profile = planted_training(rule)
    before = copy.deepcopy(profile)
    first = plugins.load("training_rules", rule)(profile)
    assert first is not None
    check_finding(rule, first)
    assert plugins.load("training_rules", rule)(profile) == first
    if rule != "nonfinite_loss":  # NaN does not equal itself
        assert profile == before


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in LAST_RESORT])
def test_a_healthy_training_is_left_in_peace(rule: str) -> None:
    assert plugins.load("training_rules", rule)(healthy_training()) is None


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in NO_GAIN])
def test_what_dominates_is_named_first(rule: str) -> None:
    assert diagnose_training(planted_training(rule))[0].name == rule


def test_hints_are_names_of_changes() -> None:
    known = set(plugins.names("training_changes"))
    for rule in RULES:
        finding = plugins.load("training_rules", rule)(planted_training(rule))
        assert finding is not None and set(finding.hints) <= known
