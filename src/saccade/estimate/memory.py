"""Whether a model fits a target's memory: weights and live activations against it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from saccade.estimate.graph import GraphFacts
from saccade.targets.target import Precision, Target

BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}
# Above this share of a memory that the system lives in too, little is left for it and the frames.
TIGHT_SHARE = 0.6

Fit = Literal["fits", "tight", "streams", "too large"]


@dataclass(frozen=True)
class MemoryEstimate:
    """What a model needs at least, estimated from its graph.

    Attributes:
        weights_mb: 10^6 bytes.
        activations_mb: the most that is alive at the same time.
        fit: the verdict.
        reason: one clause for a person.
    """

    weights_mb: float
    activations_mb: float
    fit: Fit
    reason: str

    @property
    def total_mb(self) -> float:
        """Both together. The runtime's own code and buffers come on top."""
        return self.weights_mb + self.activations_mb


def memory_estimate(graph: GraphFacts, precision: Precision, target: Target) -> MemoryEstimate:
    """Estimate what a model needs in ``precision`` and compare it with the target's memory."""
    weights = graph.weights * BYTES[precision] / 1e6
    activations = graph.live * BYTES[precision] / 1e6
    fit, reason = _fit(weights, activations, target)
    return MemoryEstimate(weights, activations, fit, reason)


def _fit(weights: float, activations: float, target: Target) -> tuple[Fit, str]:
    total, memory = weights + activations, target.memory_mb.value
    said = f"{weights:.1f} MB of weights and {activations:.1f} MB of activations (estimate)"
    if target.memory_is_cache:
        if weights <= memory:
            return "fits", f"{said}; the weights stay on the chip ({memory:g} MB)"
        return "streams", (
            f"{said}; {weights - memory:.1f} MB of weights do not fit on the chip ({memory:g} MB) "
            "and are sent with every inference"
        )
    if total > memory:
        return "too large", f"{said} are more than the {memory:g} MB of {target.name}"
    if total > TIGHT_SHARE * memory and target.shared_memory:
        return "tight", f"{said} of {memory:g} MB, which the system needs too"
    return "fits", f"{said} of {memory:g} MB"
