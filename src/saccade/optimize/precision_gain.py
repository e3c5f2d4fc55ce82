"""What lower precision can gain, from the measured roofline of this machine. Pure."""

from __future__ import annotations

import math
from dataclasses import replace

from saccade.optimize.change import PlanContext, Prediction, by_stage
from saccade.runtimes.contract import OperatorTime

MATRIX_KINDS = ("conv", "matmul", "gemm", "fullyconnected")
# Where the roofline was not measured or operators are unknown.
UNKNOWN_FACTOR, UNKNOWN_BOUND = 0.7, 0.25


def precision_prediction(
    context: PlanContext, precision: str, bytes_factor: float, cost_s: float = 0.0
) -> Prediction:
    """Predict inference in ``precision`` against the precision in use.

    The bound lets every matrix operator run as close to the new peak as it now runs to the old
    one, and every byte moved shrink by ``bytes_factor``. The expectation is the geometric mean
    of that and no change, because conversions between precisions, layouts and small operators
    eat about half of the gain on a logarithmic scale.
    """
    ideal = _ideal_factor(context, precision, bytes_factor)
    if ideal is None:
        prediction = by_stage(context, {"infer": UNKNOWN_FACTOR}, "prior", {"infer": UNKNOWN_BOUND})
        return replace(prediction, cost_s=cost_s)
    peaks = context.profile.roofline.peak_gflops if context.profile.roofline else {}
    current = _current_precision(context)
    basis = (
        f"roofline: {precision} {peaks[precision]:.0f} against {current} {peaks[current]:.0f} "
        "GFLOP/s measured"
    )
    prediction = by_stage(context, {"infer": math.sqrt(ideal)}, basis, {"infer": ideal})
    return replace(prediction, cost_s=cost_s)


def _current_precision(context: PlanContext) -> str:
    model = context.config.model
    if model.quantized:
        return "int8"
    return context.config.options.precision


def _ideal_factor(context: PlanContext, precision: str, bytes_factor: float) -> float | None:
    roofline, operators = context.profile.roofline, context.profile.operators
    if roofline is None or not operators:
        return None
    current = _current_precision(context)
    if precision not in roofline.peak_gflops or current not in roofline.peak_gflops:
        return None
    peak_ratio = roofline.peak_gflops[current] / roofline.peak_gflops[precision]
    before = sum(op.wall_ms for op in operators)
    after = sum(_after(op, min(1.0, peak_ratio), bytes_factor) for op in operators)
    return after / before if before else None


def _after(op: OperatorTime, peak_ratio: float, bytes_factor: float) -> float:
    matrix = any(kind in op.kind.lower() for kind in MATRIX_KINDS)
    return op.wall_ms * (peak_ratio if matrix else bytes_factor)
