"""Store the weights as fp16: half the file, the same arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from saccade.optimize.change import Effect, OneVariant, PlanContext, Prediction
from saccade.pipeline.config import PipelineConfig

SIZE, COST_S = 0.52, 2.0


@dataclass(frozen=True)
class StoreFp16(OneVariant):
    """fp16 on disk; the runtime makes fp32 of them when it loads the file."""

    name: ClassVar[str] = "fp16_weights"
    effect: ClassVar[Effect] = "near_lossless"

    def applies(self, context: PlanContext) -> str | None:
        """Only where the file is too large: it is no faster."""
        model = context.config.model
        if "model_mb" not in context.missed:
            return "it makes the file smaller, not the system faster, and no goal asks for that"
        if model.stored != "fp32":
            return f"the weights are stored as {model.stored}"
        if model.format != "onnx":
            return f"the model is in {model.format} format, and this starts from ONNX"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """Half the size, no gain in speed."""
        basis = "weights in half as many bytes; decoded when the file is loaded"
        return Prediction(1.0, 1.0, basis, COST_S, 0.95, {"model_mb": SIZE})

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Rewrite the file."""
        from saccade.optimize.quantization.weights import stored_file

        model = stored_file(context.config.model, "fp16", context.folder)
        return replace(context.config, model=model)
