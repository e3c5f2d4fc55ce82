"""Every runtime and precision of a target for one model: may it run, fit, and how fast at best."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saccade.errors import ModelError
from saccade.estimate.bounds import LatencyBound, latency_bound
from saccade.estimate.graph import GraphFacts
from saccade.estimate.legality import Legality, legality
from saccade.estimate.memory import MemoryEstimate, memory_estimate
from saccade.targets.read import rules_of
from saccade.targets.target import Precision, Target

# Said wherever these numbers are shown.
LABEL = "estimate, not verified on hardware"


@dataclass(frozen=True)
class Candidate:
    """One runtime in one precision on the target.

    Attributes:
        runtime: name.
        precision: of the arithmetic.
        legality: whether the runtime takes it.
        memory: whether it fits.
        latency: bounds; None where it cannot run.
    """

    runtime: str
    precision: str
    legality: Legality
    memory: MemoryEstimate
    latency: LatencyBound | None

    @property
    def usable(self) -> bool:
        """It may run and it fits."""
        return self.legality.verdict != "illegal" and self.memory.fit != "too large"

    @property
    def label(self) -> str:
        """Runtime and precision."""
        return f"{self.runtime} {self.precision}"

    @property
    def reason(self) -> str:
        """Why it cannot be used, or what to know about it; one line."""
        reasons = list(self.legality.reasons)
        if self.memory.fit != "fits":
            reasons.append(self.memory.reason)
        return "; ".join(reasons)

    def document(self) -> dict[str, Any]:
        """JSON-ready."""
        latency = self.latency
        return {
            "runtime": self.runtime,
            "precision": self.precision,
            "usable": self.usable,
            "legality": self.legality.verdict,
            "reasons": list(self.legality.reasons),
            "refused_operators": dict(self.legality.refused),
            "share_of_arithmetic": self.legality.share,
            "memory": {
                "weights_mb": self.memory.weights_mb,
                "activations_mb": self.memory.activations_mb,
                "fit": self.memory.fit,
                "reason": self.memory.reason,
            },
            "latency_bound_ms": latency.bound_ms if latency else None,
            "latency_unfused_ms": latency.unfused_ms if latency else None,
            "binding": latency.binding if latency else None,
            "label": LABEL,
        }


def candidates(graph: GraphFacts, target: Target) -> tuple[Candidate, ...]:
    """All of them; usable ones first, by their unfused estimate."""
    found = [
        _candidate(graph, target, runtime, precision)
        for index, (runtime, there) in enumerate(target.runtimes.items())
        # What makes no sense there is said once and not for every runtime.
        for precision in (*there.precisions, *(() if index else target.refused_precisions))
    ]
    return tuple(sorted(found, key=_order))


def _order(candidate: Candidate) -> tuple[bool, float]:
    latency = candidate.latency
    return not candidate.usable, latency.unfused_ms if latency else math.inf


def _candidate(graph: GraphFacts, target: Target, runtime: str, precision: Precision) -> Candidate:
    legal = legality(graph, target, runtime, rules_of(runtime), precision)
    bound = None
    if legal.verdict != "illegal":
        bound = latency_bound(graph, target.processor_of(runtime), precision)
    memory = memory_estimate(graph, precision, target)
    return Candidate(runtime, precision, legal, memory, bound)


def check_usable(found: tuple[Candidate, ...], target: Target, model: str) -> None:
    """Refuse a model that no runtime of the target could run.

    Raises:
        ModelError: nothing is legal, or nothing fits; it says which and what to do.
    """
    if any(candidate.usable for candidate in found):
        return
    legal = [candidate for candidate in found if candidate.legality.verdict != "illegal"]
    if not legal:
        raise ModelError(
            f"No runtime of {target.name} takes '{model}': {found[0].label}: {found[0].reason}. "
            "Export the model without these operators, or choose another target."
        )
    least = min(legal, key=lambda candidate: candidate.memory.total_mb)
    raise ModelError(
        f"'{model}' does not fit into {target.name}: even {least.label} has {least.memory.reason}. "
        "Give a smaller model or input size, or choose a target with more memory."
    )


def estimate_document(
    graph: GraphFacts, target: Target, found: tuple[Candidate, ...]
) -> Mapping[str, Any]:
    """JSON-ready content of ``estimates.json``."""
    return {
        "target": target.name,
        "label": LABEL,
        "input_hw": list(graph.input_hw),
        "gflops": graph.flops / 1e9,
        "parameters": graph.weights,
        "candidates": [candidate.document() for candidate in found],
        "constraints": list(target.constraints),
    }
