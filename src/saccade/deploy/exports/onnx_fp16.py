"""ONNX with half-precision weights and arithmetic; inputs and outputs stay float32."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from saccade.deploy.exports.contract import ExportRequest, Run, on_onnxruntime, why_not_float
from saccade.errors import RuntimeFailure
from saccade.models.files import model_file
from saccade.pipeline.config import ModelFile, PipelineConfig


class OnnxFp16:
    """Half the size. For GPUs: on most CPUs it is slower than fp32."""

    name: ClassVar[str] = "onnx_fp16"
    label: ClassVar[str] = "ONNX, fp16"
    precision: ClassVar[str] = "fp16"
    at_any_size: ClassVar[bool] = True

    @staticmethod
    def applies(request: ExportRequest) -> str | None:
        """Needs a float model."""
        return why_not_float(request)

    @staticmethod
    def runs(request: ExportRequest) -> tuple[Run, ...]:
        """GPUs."""
        return (Run("onnxruntime-cuda", "fp16"),)

    @staticmethod
    def write(request: ExportRequest) -> ModelFile:
        """Convert with ONNX Runtime's converter.

        Raises:
            RuntimeFailure: it refused the model.
        """
        from onnxruntime.transformers.float16 import convert_float_to_float16

        from saccade.estimate.graph import folded
        from saccade.models.onnx_file import read_onnx
        from saccade.models.onnx_save import save_onnx

        model = folded(read_onnx(request.config.model.path), request.input_hw)
        try:
            half = convert_float_to_float16(model, keep_io_types=True)
        except Exception as error:  # it raises whatever happens inside
            raise RuntimeFailure(f"The conversion to fp16 failed: {error}") from error
        target = request.work / "model-fp16.onnx"
        save_onnx(half, target)
        return replace(model_file(target), stored="fp16")

    @staticmethod
    def config(request: ExportRequest, model: ModelFile) -> PipelineConfig:
        """The baseline with this file."""
        return on_onnxruntime(request, model)
