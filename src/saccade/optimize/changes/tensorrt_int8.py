"""Build an int8 engine for TensorRT, calibrated on real frames. Not verified on hardware."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from saccade.optimize.change import Effect, OneVariant, PlanContext, Prediction
from saccade.optimize.precision_gain import precision_prediction
from saccade.pipeline.config import ModelFile, PipelineConfig, digest

COST_S = 240.0
ODDS = 0.5


@dataclass(frozen=True)
class QuantizeTensorRt(OneVariant):
    """TensorRT's entropy calibration; layers may also run in fp16 where that is faster."""

    name: ClassVar[str] = "tensorrt_int8"
    effect: ClassVar[Effect] = "near_lossless"

    def applies(self, context: PlanContext) -> str | None:
        """Needs TensorRT in use, a float ONNX model, and frames to calibrate on."""
        config = context.config
        if config.runtime != "tensorrt":
            return f"the model runs in {config.runtime}; switch to TensorRT first"
        if config.model.format != "onnx" or config.model.quantized:
            return "the model is quantized already"
        if config.shape == "rect":
            return (
                "an engine is calibrated for one input shape, and the letterbox follows the frame"
            )
        if not context.calibration and not context.video:
            return "there are no images to calibrate on"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """By a prior, where this machine's int8 peak was not measured."""
        prediction = precision_prediction(context, "int8", bytes_factor=0.5, cost_s=COST_S)
        return replace(prediction, odds=ODDS)

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Calibrate and build, once; the engine belongs to this machine."""
        from saccade.models.files import model_file
        from saccade.optimize.quantization.calibration import calibration_tensors
        from saccade.optimize.quantization.make import calibration_data, identity
        from saccade.optimize.quantization.recipe import Recipe
        from saccade.runtimes.tensorrt_engine import EngineSettings, build_engine

        config = context.config
        data = calibration_data(context, Recipe())
        names = [identity(image) for image in data.images]
        key = digest([config.model.sha256, config.input_size, names])
        target = context.folder / f"int8-{key}.engine"
        if not target.exists():
            hw = config.description.input_hw or (config.input_size,) * 2
            settings = EngineSettings(
                hw, fp16=True, int8=True, timing_cache=context.folder / "tensorrt.timings"
            )
            graph = Path(config.model.path).read_bytes()
            name = config.description.input.name
            engine = build_engine(graph, name, settings, calibration_tensors(config, data))
            context.folder.mkdir(parents=True, exist_ok=True)
            target.write_bytes(engine)
        found = model_file(target)
        model = ModelFile(found.path, found.sha256, found.format, stored="int8")
        options = replace(config.options, precision="fp32")
        return replace(config, model=model, options=options)
