"""Runs all rules over a profile and puts the findings into the order of what they can gain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from saccade import plugins
from saccade.diagnose.records import Finding
from saccade.profile.records import Profile

SCHEMA_VERSION = 1

# Rules whose remedy is to leave sequential execution: their pipelined bound is what counts.
REMEDY_IS_OVERLAP = frozenset({"serialized_stages"})


def diagnose(profile: Profile) -> tuple[Finding, ...]:
    """All findings about ``profile``, the one with the largest attainable gain first."""
    rules = [plugins.load("rules", name) for name in plugins.names("rules")]
    findings = [finding for rule in rules if (finding := rule(profile)) is not None]
    return tuple(sorted(findings, key=lambda f: attainable_gain(f, profile), reverse=True))


def attainable_gain(finding: Finding, profile: Profile) -> float:
    """Upper bound on the throughput ratio under the execution that ``profile`` has."""
    overlapped = profile.execution == "overlapped" or finding.name in REMEDY_IS_OVERLAP
    return finding.max_gain_pipelined if overlapped else finding.max_gain_sequential


def findings_document(findings: Iterable[Finding]) -> dict[str, Any]:
    """The findings as a JSON-ready document, in the given order."""
    return {"schema_version": SCHEMA_VERSION, "findings": [f.document() for f in findings]}
