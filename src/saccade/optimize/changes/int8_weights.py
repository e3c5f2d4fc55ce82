"""Store only the weights as int8: a quarter of the file, and of the bytes read per inference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from saccade.optimize.change import Effect, OneVariant, PlanContext, Prediction, by_stage
from saccade.pipeline.config import PipelineConfig

SIZE, COST_S = 0.27, 6.0
# Operators that read each weight once per inference. A convolution uses it for every pixel, so it
# is bound by arithmetic, which stays in float here.
ONCE = ("gemm", "matmul", "fullyconnected")
# Share of inference from which reading weights is what counts.
BOUND_SHARE = 0.4
# Of that share, what a quarter of the bytes leaves at best, and what is expected with decoding.
BEST, EXPECTED = 0.25, 0.7
ODDS = 0.8


@dataclass(frozen=True)
class CompressWeights(OneVariant):
    """Weights rounded per channel, activations and arithmetic as they were (weight-only int8)."""

    name: ClassVar[str] = "int8_weights"
    effect: ClassVar[Effect] = "near_lossless"

    def applies(self, context: PlanContext) -> str | None:
        """Where reading weights is the bottleneck, or the file is too large."""
        model = context.config.model
        if model.stored != "fp32":
            return f"the weights are stored as {model.stored}"
        if model.format != "onnx":
            return f"the model is in {model.format} format, and this starts from ONNX"
        share = read_once_share(context)
        if "model_mb" not in context.missed and share < BOUND_SHARE:
            return (
                f"inference is not bound by reading weights: operators that read each once take "
                f"{share:.0%} of it, and decoding int8 would only make it slower"
            )
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """By the share of inference that reads each weight once."""
        share = read_once_share(context)
        basis = f"{share:.0%} of inference reads each weight once"
        expected = {"infer": 1 - share * (1 - EXPECTED)}
        found = by_stage(context, expected, basis, {"infer": 1 - share * (1 - BEST)})
        return replace(found, cost_s=COST_S, odds=ODDS, shrinks={"model_mb": SIZE})

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Rewrite the file."""
        from saccade.optimize.quantization.weights import stored_file

        model = stored_file(context.config.model, "int8_weights", context.folder)
        return replace(context.config, model=model)


def read_once_share(context: PlanContext) -> float:
    """Share of operator time in matrix products with constant weights; 0 where unknown."""
    operators = context.profile.operators
    total = sum(op.wall_ms for op in operators)
    once = sum(op.wall_ms for op in operators if any(k in op.kind.lower() for k in ONCE))
    return once / total if total else 0.0
