"""`Finding`: a named bottleneck with its evidence and the upper bound on what removing it gains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from saccade.profile.records import Profile


@dataclass(frozen=True)
class Finding:
    """A named bottleneck.

    Attributes:
        name: the rule's name, ``"decode_bound"``.
        title: one sentence for a person, with the numbers that matter.
        evidence: measured numbers the conclusion rests on, name → value with its unit in the name.
        share: share 0-1 of the frame's time.
        max_gain_sequential: throughput ratio if the bottleneck vanished and stages ran one after
            the other; an upper bound, 1.0 means nothing.
        max_gain_pipelined: the same with all stages overlapped, against today's execution.
        hints: names of optimizations that address it.
    """

    name: str
    title: str
    evidence: Mapping[str, float]
    share: float
    max_gain_sequential: float
    max_gain_pipelined: float
    hints: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**vars(self), "evidence": dict(self.evidence), "hints": list(self.hints)}


class Rule(Protocol):
    """A rule is a pure function from a profile to at most one finding."""

    def __call__(self, profile: Profile) -> Finding | None:
        """The finding, or None where the evidence is not there."""
        ...
