"""Compute in bfloat16 where the CPU has it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from saccade.optimize.change import Effect, OneVariant, PlanContext, Prediction
from saccade.optimize.precision_gain import precision_prediction
from saccade.pipeline.config import PipelineConfig

# Whose runtimes take the precision as a setting.
FORMATS = ("onnx", "openvino_ir")


@dataclass(frozen=True)
class UseBf16(OneVariant):
    """bf16 arithmetic, chosen when the model is compiled; the file stays fp32."""

    name: ClassVar[str] = "bf16"
    effect: ClassVar[Effect] = "near_lossless"

    def applies(self, context: PlanContext) -> str | None:
        """The runtime in use must offer bf16 on this CPU."""
        config = context.config
        if config.options.precision == "bf16":
            return "already in use"
        if config.model.quantized:
            return "the model is quantized, and what stays float in it is small"
        if config.model.format not in FORMATS:
            return f"the model is in {config.model.format} format, and this starts from ONNX"
        if "bf16" not in context.runtimes[config.runtime].precisions:
            return f"{config.runtime} has no bf16 on this CPU"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """By the measured peaks of this machine."""
        return precision_prediction(context, "bf16", bytes_factor=0.5)

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Change the precision hint."""
        config = context.config
        return replace(config, options=replace(config.options, precision="bf16"))
