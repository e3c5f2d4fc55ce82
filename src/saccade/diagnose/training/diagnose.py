"""Runs all rules over a training's profile and puts the findings in order."""

from __future__ import annotations

from saccade import plugins
from saccade.diagnose.records import Finding
from saccade.train.profile import TrainingProfile

# What is wrong rather than slow comes first, whatever the rest could gain.
FAULTS = ("nonfinite_loss", "leaking_loader", "corrupt_samples")


def diagnose_training(profile: TrainingProfile) -> tuple[Finding, ...]:
    """All findings about ``profile``: faults, then the largest attainable gain first."""
    rules = [plugins.load("training_rules", name) for name in plugins.names("training_rules")]
    findings = [finding for rule in rules if (finding := rule(profile)) is not None]
    return tuple(sorted(findings, key=_rank))


def _rank(finding: Finding) -> tuple[int, float]:
    order = FAULTS.index(finding.name) if finding.name in FAULTS else len(FAULTS)
    return order, -finding.max_gain_sequential
