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


def test_printing_a_value_is_charged_once() -> None:
    """Where a print asks a tensor for its value, one rule has the time and the other the place."""
    found = {
        finding.name: finding for finding in diagnose_training(planted_training("logging_bound"))
    }
    said, asked = found["logging_bound"], found["synchronisation"]
    assert said.evidence["logging_bound_ms"] == pytest.approx(400.0)
    assert "print at job.py:12 in loss(), 1 per step" in said.title
    assert "Tensor.__repr__ at job.py:12" in asked.title and "print" not in asked.title
    assert (asked.share, asked.evidence["wait_ms"], asked.max_gain_sequential) == (0.0, 0.0, 1.0)
    assert "launch_bound" not in found and "tiny_batch" not in found


def test_printing_without_asking_is_no_synchronisation() -> None:
    planted = planted_training("logging_bound")
    plain = replace(planted, syncs=tuple(sync for sync in planted.syncs if sync.prints))
    names = {finding.name for finding in diagnose_training(plain)}
    assert "logging_bound" in names and "synchronisation" not in names


def test_a_gpu_that_works_meanwhile_loses_nothing_by_printing() -> None:
    rule = plugins.load("training_rules", "logging_bound")
    planted = planted_training("logging_bound")
    step_ms = 1e3 * planted.block.step_s[0]
    assert rule(replace(planted, device_ms=step_ms)) is None
    idle = rule(replace(planted, device_ms=step_ms - 100.0))
    assert idle.evidence["logging_bound_ms"] == pytest.approx(100.0)


def test_what_is_printed_is_no_fault_of_the_batch() -> None:
    """A larger batch takes hardly longer, which is most of a step that prints nothing else."""
    rule = plugins.load("training_rules", "tiny_batch")
    scaled_ms = {8: 94.0, 32: 110.0}
    assert rule(replace(healthy_training(), scaled_ms=scaled_ms)) is not None
    assert rule(replace(planted_training("logging_bound"), scaled_ms=scaled_ms)) is None


def test_hints_are_names_of_changes() -> None:
    known = set(plugins.names("training_changes"))
    for rule in RULES:
        finding = plugins.load("training_rules", rule)(planted_training(rule))
        assert finding is not None and set(finding.hints) <= known
