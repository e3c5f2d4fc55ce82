"""ONNX with its input size written into the graph: what TensorRT and phones' converters want."""

from __future__ import annotations

from typing import ClassVar

from saccade.deploy.exports.contract import ExportRequest, Run, on_onnxruntime, own_runs
from saccade.models.files import model_file
from saccade.pipeline.config import ModelFile, PipelineConfig

CALIBRATION_CACHE = "calibration.cache"
# fp16 and int8 are judged here by files in that precision, because an engine cannot be run here.
FIXED_RUNS = (
    Run("tensorrt", "fp32", ("--noTF32",)),
    Run("tensorrt", "fp16", ("--fp16",), judged_as="onnx_fp16"),
    Run(
        "tensorrt",
        "int8",
        ("--int8", "--fp16", f"--calib={{kit}}/{CALIBRATION_CACHE}"),
        judged_as="onnx_int8_symmetric",
    ),
    Run("onnxruntime-tensorrt", "fp32"),
    Run("onnxruntime-tensorrt", "fp16", judged_as="onnx_fp16"),
    Run("onnxruntime-cuda", "fp32"),
    Run("openvino", "fp32"),
    Run("openvino", "bf16"),
    Run("openvino", "fp16"),
)


class OnnxFixed:
    """ONNX of a fixed size, its shape arithmetic folded."""

    name: ClassVar[str] = "onnx_fixed"
    label: ClassVar[str] = "ONNX, fixed size"
    precision: ClassVar[str] = "fp32"
    at_any_size: ClassVar[bool] = True

    @staticmethod
    def applies(request: ExportRequest) -> str | None:
        """Where the file leaves the size open."""
        return "the model has a fixed size already" if request.fixed else None

    @staticmethod
    def runs(request: ExportRequest) -> tuple[Run, ...]:
        """Runtimes that gain from a fixed size, or need one."""
        return own_runs(request, Run("onnxruntime", "fp32"), *FIXED_RUNS)

    @staticmethod
    def write(request: ExportRequest) -> ModelFile:
        """Reshape and fold."""
        from saccade.estimate.graph import folded
        from saccade.models.onnx_file import read_onnx
        from saccade.models.onnx_save import save_onnx

        target = request.work / "model-fixed.onnx"
        save_onnx(folded(read_onnx(request.config.model.path), request.input_hw), target)
        return model_file(target)

    @staticmethod
    def config(request: ExportRequest, model: ModelFile) -> PipelineConfig:
        """The baseline with this file."""
        return on_onnxruntime(request, model)
