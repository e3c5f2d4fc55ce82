"""Quantize a PyTorch program to int8 and run it in ExecuTorch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from saccade.models.files import model_file
from saccade.optimize.change import Effect, PlanContext, Prediction
from saccade.optimize.precision_gain import precision_prediction
from saccade.optimize.quantization.one_rung import OneRung
from saccade.pipeline.config import ModelFile, PipelineConfig

# Calibration and lowering.
COST_S = 60.0
ODDS = 0.5


@dataclass(frozen=True)
class QuantizeExecuTorch(OneRung):
    """XNNPACK's symmetric int8 scheme, from the exported program in one step."""

    name: ClassVar[str] = "executorch_int8"
    effect: ClassVar[Effect] = "near_lossless"
    closed: ClassVar[str] = (
        "XNNPACK's quantizer has one scheme and one way to tell ranges, and the program is lowered "
        "whole; quantize for LiteRT, OpenVINO or ONNX Runtime, whose ladders have this rung"
    )

    def applies(self, context: PlanContext) -> str | None:
        """Needs ExecuTorch, the exported program, and frames to calibrate on."""
        from saccade.optimize.quantization.checked import why_not_calibrated

        available = context.runtimes.get("executorch")
        if available is None or not available.ok:
            return "executorch is not installed (pip install 'saccade[executorch]')"
        if context.config.model.quantized:
            return "the model is quantized already"
        if context.config.shape == "rect":
            return "executorch needs one input shape, and the letterbox follows the frame"
        if _program(context.config) is None:
            return f"the model is in {context.config.model.format} format; it starts from PyTorch"
        return why_not_calibrated(context)

    def predict(self, context: PlanContext) -> Prediction:
        """By the measured peaks of this machine, else by a prior."""
        prediction = precision_prediction(context, "int8", bytes_factor=0.25, cost_s=COST_S)
        return replace(prediction, odds=ODDS)

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Quantize in a process of its own; the configuration moves to ExecuTorch."""
        from saccade.optimize.executorch_quantization import quantize_executorch

        config = context.config
        program = _program(config)
        assert program is not None  # `applies` has looked
        options = replace(
            config.options, precision="fp32", graph_level="default", channels_last=False
        )
        model = quantize_executorch(context, program)
        return replace(config, runtime="executorch", options=options, model=model)

    def details(self, context: PlanContext) -> dict[str, Any]:
        """Doubts about the calibration images."""
        from saccade.optimize.executorch_quantization import quantized_path
        from saccade.optimize.quantization.make import details_of

        program = _program(context.config)
        return details_of(quantized_path(context, program)) if program is not None else {}


def _program(config: PipelineConfig) -> ModelFile | None:
    if config.model.format == "torch_export":
        return config.model
    program = config.model.program
    return model_file(program) if program is not None and Path(program).is_file() else None
