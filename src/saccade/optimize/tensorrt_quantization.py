"""Build int8 engines for TensorRT, calibrated on real frames, in a process of its own.

TensorRT's entropy calibration, Migacz, "8-bit Inference with TensorRT", GTC 2017. Not verified on
hardware: no GPU was at hand in this project.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import DataError
from saccade.models.files import model_file
from saccade.models.onnx_file import read_onnx
from saccade.models.onnx_save import save_onnx
from saccade.models.reshape import at_size
from saccade.optimize.change import PlanContext
from saccade.optimize.quantization.activations import observe
from saccade.optimize.quantization.calibration import CalibrationData, calibration_tensors
from saccade.optimize.quantization.checked import check_calibration
from saccade.optimize.quantization.layers import named
from saccade.optimize.quantization.make import (
    calibration_data,
    calibration_key,
    details_path,
    write_details,
)
from saccade.optimize.quantization.prepared import float_model
from saccade.optimize.quantization.recipe import Recipe
from saccade.optimize.worker import Worker
from saccade.pipeline.config import ModelFile, PipelineConfig, digest
from saccade.pipeline.pipeline import letterbox_of
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
            worker.call("run", context.config, _hw(context), data, str(target), timeout_s=TIMEOUT_S)
    found = model_file(target)
    return ModelFile(found.path, found.sha256, found.format, stored="int8")


def calibrated_path(context: PlanContext) -> Path:
    """Where the engine is or will be: equal path means equal calibration."""
    config = context.config
    calibrated = calibration_key(config, calibration_data(context, Recipe()))
    key = digest([METHOD, config.model.sha256, *_hw(context), calibrated])
    return context.folder / f"int8-{key}.engine"


def _hw(context: PlanContext) -> tuple[int, int]:
    """Height and width that the engine is for: those in use."""
    return letterbox_of(context.config, context.frame_hw).input_hw


class TensorRtQuantizer:
    """Runs a job. Lives in a worker process, because TensorRT is heavy and may fail."""

    def run(
        self, config: PipelineConfig, hw: tuple[int, int], data: CalibrationData, target: str
    ) -> None:
        """Check the images, calibrate, and write the engine whole or not at all."""
        path = Path(target)
        samples = calibration_tensors(config, data)
        model = named(float_model(config, samples))
        ranges = observe(model, samples)
        doubts = check_calibration(config, data, ranges, partial(observe, model))
        fed = [sample for sample in samples if sample.shape[2:] == hw]
        if not fed:
            raise DataError(f"No calibration image comes to the {hw[0]}x{hw[1]} of the frames.")
        engine = self.engine(config, hw, fed)
        write_details(details_path(path), {"images": len(samples), "doubts": doubts})
        # Last: where it is, everything is.
        unfinished = path.with_name("partial-" + path.name)
        unfinished.write_bytes(engine)
        unfinished.replace(path)

    def engine(
        self, config: PipelineConfig, hw: tuple[int, int], samples: list[NDArray[np.float32]]
    ) -> bytes:
        """Calibrate and build for the GPU of this machine.

        Args:
            config: how the float ONNX model runs.
            hw: height and width of its input, pixels.
            samples: inputs ``(1, 3, H, W)``.
        """
        timings = timings_path(_builder())
        settings = EngineSettings(hw, fp16=True, int8=True, timing_cache=timings)
        name = config.description.input.name
        given = read_onnx(config.model.path)
        sized = at_size(given, hw)
        if sized is given:
            return built_engine(Path(config.model.path), name, settings, samples)
        with tempfile.TemporaryDirectory(prefix="saccade-") as folder:
            path = Path(folder) / "model.onnx"
            save_onnx(sized, path)
            return built_engine(path, name, settings, samples)


def _builder() -> Builder:
    import torch

    trt: Any = tensorrt_package.load("Building an engine")
    return Builder(trt.__version__, torch.cuda.get_device_name())
