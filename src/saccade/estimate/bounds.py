"""How fast a model can be on a target at best: bounds from the roofline of its data sheet. Pure.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model" (2009). The
peaks are what a data sheet promises, not what a runtime reaches: nothing here is a speed that
anybody has measured, and every number is labelled as an estimate where it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from saccade.estimate.graph import GraphFacts, Operator
from saccade.estimate.memory import BYTES
from saccade.profile.records import Roofline
from saccade.targets.target import Precision, Processor


@dataclass(frozen=True)
class LatencyBound:
    """Bounds on the latency of one inference, milliseconds.

    Attributes:
        bound_ms: it cannot be faster: all arithmetic at the peak rate, or all that must come from
            memory at full bandwidth, whichever takes longer.
        unfused_ms: the same, operator by operator, each reading and writing its tensors once. A
            runtime that fuses operators may be faster, most are slower.
        binding: what decides ``bound_ms``, ``"arithmetic"`` or ``"memory"``.
    """

    bound_ms: float
    unfused_ms: float
    binding: str


def roofline_of(processor: Processor) -> Roofline:
    """A target's processor as the roofline that profiles of this machine have."""
    return Roofline(
        peak_gflops={name: figure.value for name, figure in processor.peak_gops.items()},
        bandwidth_gbs=processor.bandwidth_gbs.value,
    )


def latency_bound(
    graph: GraphFacts, processor: Processor, precision: Precision
) -> LatencyBound | None:
    """Bounds in ``precision``; None where the processor has no rate for it."""
    roofline = roofline_of(processor)
    peak = roofline.peak_gflops.get(precision)
    if peak is None:
        return None
    size = BYTES[precision]
    arithmetic_ms = graph.flops / peak / 1e6
    # Weights that fit the cache may still be there from the last inference.
    streamed = max(0.0, graph.weights * size - 1e6 * processor.cache_mb.value)
    if processor.link:
        streamed += (graph.inputs + graph.outputs) * size
    memory_ms = streamed / roofline.bandwidth_gbs / 1e6
    bound = max(arithmetic_ms, memory_ms)
    unfused = memory_ms + arithmetic_ms if processor.link else _unfused(graph, roofline, peak, size)
    return LatencyBound(
        bound_ms=bound,
        unfused_ms=max(bound, unfused),
        binding="memory" if memory_ms > arithmetic_ms else "arithmetic",
    )


def _unfused(graph: GraphFacts, roofline: Roofline, peak: float, size: int) -> float:
    return sum(_operator_ms(op, roofline, peak, size) for op in graph.operators)


def _operator_ms(op: Operator, roofline: Roofline, peak: float, size: int) -> float:
    moved = op.elements * size / roofline.bandwidth_gbs
    return max(op.flops / peak, moved) / 1e6
