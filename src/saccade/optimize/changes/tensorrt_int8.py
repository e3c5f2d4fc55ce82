"""Build an int8 engine for TensorRT, calibrated on real frames. Not verified on hardware."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from saccade.optimize.change import Effect, PlanContext, Prediction
from saccade.optimize.precision_gain import precision_prediction
from saccade.optimize.quantization.one_rung import OneRung
from saccade.pipeline.config import PipelineConfig

COST_S = 240.0
ODDS = 0.5


@dataclass(frozen=True)
class QuantizeTensorRt(OneRung):
    """TensorRT's entropy calibration; layers may also run in fp16 where that is faster."""

    name: ClassVar[str] = "tensorrt_int8"
    effect: ClassVar[Effect] = "near_lossless"
    closed: ClassVar[str] = (
        "TensorRT calibrates by entropy and picks the precision of each layer for speed; fp16 is a "
        "change of its own, and a model that was quantized with care elsewhere comes as QDQ ONNX"
    )

    def applies(self, context: PlanContext) -> str | None:
        """Needs TensorRT in use, a float ONNX model, and frames to calibrate on."""
        from saccade.optimize.quantization.checked import why_not_calibrated

        config = context.config
        if config.runtime != "tensorrt":
            return f"the model runs in {config.runtime}; switch to TensorRT first"
        if config.model.quantized:
            return "the model is quantized already"
        if config.model.format != "onnx":
            return f"the model is in {config.model.format} format, and this starts from ONNX"
        if config.shape == "rect":
            return (
                "an engine is calibrated for one input shape, and the letterbox follows the frame"
            )
        return why_not_calibrated(context)

    def predict(self, context: PlanContext) -> Prediction:
        """By a prior, where this machine's int8 peak was not measured."""
        prediction = precision_prediction(context, "int8", bytes_factor=0.5, cost_s=COST_S)
        return replace(prediction, odds=ODDS)

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Calibrate and build in a process of its own; the engine belongs to this machine."""
        from saccade.optimize.tensorrt_quantization import calibrated_engine

        options = replace(context.config.options, precision="fp32")
        return replace(context.config, model=calibrated_engine(context), options=options)

    def details(self, context: PlanContext) -> dict[str, Any]:
        """How many images calibrated, and doubts about them."""
        from saccade.optimize.quantization.make import details_of
        from saccade.optimize.tensorrt_quantization import calibrated_path

        return details_of(calibrated_path(context))
