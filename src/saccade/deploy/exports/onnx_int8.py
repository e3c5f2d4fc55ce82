"""ONNX with int8 weights and activations (QDQ), in the two forms that runtimes want."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import onnx

from saccade.deploy.exports.contract import TENSORRT_INT8, ExportRequest, Run, on_onnxruntime
from saccade.deploy.exports.phones import why_no_calibration
from saccade.estimate.graph import folded
from saccade.models.files import model_file
from saccade.models.onnx_file import read_onnx
from saccade.models.onnx_save import save_onnx
from saccade.optimize.quantization.activations import observe
from saccade.optimize.quantization.checked import check_calibration
from saccade.optimize.quantization.layers import named
from saccade.optimize.quantization.prepared import recent
from saccade.optimize.quantization.qdq import OnnxRuntimeQdq
from saccade.optimize.quantization.recipe import HEAD_FLOAT, OUTPUT_FLOAT, Recipe
from saccade.pipeline.config import ModelFile, PipelineConfig

# Tasks whose models end in a head of several layers, which stays float as one.
WITH_HEAD = ("detection", "tracking", "instance_segmentation")
CALIBRATION_TENSORS = 16


class OnnxInt8:
    """Unsigned activations, signed weights per channel: fast on x86 with VNNI."""

    name: ClassVar[str] = "onnx_int8"
    label: ClassVar[str] = "ONNX, int8 (QDQ, u8 activations)"
    precision: ClassVar[str] = "int8"
    at_any_size: ClassVar[bool] = True

    @staticmethod
    def applies(request: ExportRequest) -> str | None:
        """Needs frames to calibrate on."""
        return why_no_calibration(request)

    @staticmethod
    def runs(request: ExportRequest) -> tuple[Run, ...]:
        """ONNX Runtime on CPUs."""
        return (Run("onnxruntime", "int8"),)

    @staticmethod
    def write(request: ExportRequest) -> ModelFile:
        """Quantize with ONNX Runtime.

        Raises:
            RuntimeFailure: it refused the model.
        """
        return quantized(request, symmetric=False)

    @staticmethod
    def config(request: ExportRequest, model: ModelFile) -> PipelineConfig:
        """The baseline with this file."""
        return on_onnxruntime(request, model)


class OnnxInt8Symmetric:
    """Signed activations around zero: what TensorRT demands and Arm CPUs like."""

    name: ClassVar[str] = "onnx_int8_symmetric"
    label: ClassVar[str] = "ONNX, int8 (QDQ, symmetric)"
    precision: ClassVar[str] = "int8"
    at_any_size: ClassVar[bool] = True

    @staticmethod
    def applies(request: ExportRequest) -> str | None:
        """Needs frames to calibrate on."""
        return OnnxInt8.applies(request)

    @staticmethod
    def runs(request: ExportRequest) -> tuple[Run, ...]:
        """TensorRT, and ONNX Runtime on CPUs."""
        return (
            Run("tensorrt", "int8", TENSORRT_INT8),
            Run("onnxruntime-tensorrt", "int8"),
            Run("onnxruntime", "int8"),
        )

    @staticmethod
    def write(request: ExportRequest) -> ModelFile:
        """Quantize with ONNX Runtime.

        Raises:
            RuntimeFailure: it refused the model.
        """
        return quantized(request, symmetric=True)

    @staticmethod
    def config(request: ExportRequest, model: ModelFile) -> PipelineConfig:
        """The baseline with this file."""
        return on_onnxruntime(request, model)


def quantized(request: ExportRequest, symmetric: bool) -> ModelFile:
    """Calibrate on the request's tensors (smallest and largest values) and write a QDQ file.

    Raises:
        DataError: the calibration images are not of the kind that the model is used on.
        ModelError: the model is too old for scales per channel.
        RuntimeFailure: ONNX Runtime's quantizer refused the model.
    """
    model = recent(onnx.load(str(float_model(request))))
    look = partial(observe, model)
    check_calibration(request.config, request.calibration, look(request.tensors), look)
    name = "symmetric" if symmetric else "u8"
    target = request.work / f"model-int8-{name}.onnx"
    recipe = Recipe(float_depth=HEAD_FLOAT if request.config.task in WITH_HEAD else OUTPUT_FLOAT)
    samples = request.tensors[:CALIBRATION_TENSORS]
    OnnxRuntimeQdq.quantize(model, samples, recipe, (), target, symmetric)
    return replace(model_file(target), stored="int8")


def float_model(request: ExportRequest) -> Path:
    """The fixed-size model with a name for every node, which the quantizer goes by."""
    path = request.work / "model-float.onnx"
    if not path.exists():
        model = folded(read_onnx(request.config.model.path), request.input_hw)
        save_onnx(named(model), path)
    return path
