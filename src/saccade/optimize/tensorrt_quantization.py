"""Build int8 engines for TensorRT, calibrated on real frames, in a process of its own.

TensorRT's entropy calibration, Migacz, "8-bit Inference with TensorRT", GTC 2017. Not verified on
hardware: no GPU was at hand in this project.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.models.files import model_file
from saccade.optimize.change import PlanContext
from saccade.optimize.quantization.activations import observe
from saccade.optimize.quantization.calibration import CalibrationData, calibration_tensors
from saccade.optimize.quantization.checked import check_calibration
from saccade.optimize.quantization.layers import named
from saccade.optimize.quantization.make import calibration_data, details_path, identity
from saccade.optimize.quantization.prepared import float_model
from saccade.optimize.quantization.recipe import Recipe
from saccade.optimize.worker import Worker
from saccade.pipeline.config import ModelFile, PipelineConfig, digest
from saccade.runtimes import tensorrt_package
from saccade.runtimes.tensorrt_cache import Builder, timings_path
from saccade.runtimes.tensorrt_engine import built_engine
from saccade.runtimes.tensorrt_settings import EngineSettings

# Part of a file's name: raised when the same settings are made in another way.
METHOD = "entropy 2"
# Small boards time every kernel for a quarter of an hour.
TIMEOUT_S = 3600.0


def calibrated_engine(context: PlanContext) -> ModelFile:
    """The context's model as an int8 engine; a file that is already there is used again.

    Raises:
        DataError: the calibration images are too few, or not of the kind the model is used on.
        MissingExtraError: tensorrt is not installed.
        RuntimeFailure: there are no frames, TensorRT refused the model, or the process failed.
    """
    target = calibrated_path(context)
    if not target.exists():
        context.folder.mkdir(parents=True, exist_ok=True)
        data = calibration_data(context, Recipe())
        with Worker("saccade.optimize.tensorrt_quantization:TensorRtQuantizer", ()) as worker:
            worker.call("run", context.config, data, str(target), timeout_s=TIMEOUT_S)
    found = model_file(target)
    return ModelFile(found.path, found.sha256, found.format, stored="int8")


def calibrated_path(context: PlanContext) -> Path:
    """Where the engine is or will be: equal path means equal calibration."""
    config, data = context.config, calibration_data(context, Recipe())
    names = [[identity(image) for image in images] for images in (data.images, data.compared)]
    key = digest([METHOD, config.model.sha256, config.shape, config.input_size, *names])
    return context.folder / f"int8-{key}.engine"


class TensorRtQuantizer:
    """Runs a job. Lives in a worker process, because TensorRT is heavy and may fail."""

    def run(self, config: PipelineConfig, data: CalibrationData, target: str) -> None:
        """Check the images, calibrate, and write the engine whole or not at all."""
        path = Path(target)
        samples = calibration_tensors(config, data)
        model = named(float_model(config, samples))
        ranges = observe(model, samples)
        doubts = check_calibration(config, data, ranges, partial(observe, model))
        engine = self.engine(config, samples)
        document = {"images": len(samples), "doubts": doubts}
        details_path(path).write_text(json.dumps(document, indent=1), encoding="utf-8")
        # Last: where it is, everything is.
        unfinished = path.with_name("partial-" + path.name)
        unfinished.write_bytes(engine)
        unfinished.replace(path)

    def engine(self, config: PipelineConfig, samples: list[NDArray[np.float32]]) -> bytes:
        """Calibrate and build for the GPU of this machine.

        Args:
            config: how the float ONNX model runs.
            samples: inputs ``(1, 3, H, W)``.
        """
        hw = config.description.input_hw or (config.input_size,) * 2
        timings = timings_path(_builder())
        settings = EngineSettings(hw, fp16=True, int8=True, timing_cache=timings)
        name = config.description.input.name
        return built_engine(Path(config.model.path), name, settings, samples)


def _builder() -> Builder:
    import torch

    trt: Any = tensorrt_package.load("Building an engine")
    return Builder(trt.__version__, torch.cuda.get_device_name())
