"""The model file as it was given."""

from __future__ import annotations

from typing import ClassVar

from saccade.deploy.exports.contract import ExportRequest, Run, on_onnxruntime, own_runs
from saccade.deploy.exports.onnx_fixed import FIXED_RUNS
from saccade.pipeline.config import ModelFile, PipelineConfig


class OnnxGiven:
    """ONNX, unchanged; everything else is compared with it."""

    name: ClassVar[str] = "onnx"
    label: ClassVar[str] = "ONNX as given"
    precision: ClassVar[str] = "fp32"

    @staticmethod
    def applies(request: ExportRequest) -> str | None:
        """Always."""
        return None

    @staticmethod
    def runs(request: ExportRequest) -> tuple[Run, ...]:
        """ONNX Runtime; where the size is fixed already, also what wants it fixed."""
        plain = (Run("onnxruntime", "fp32"),)
        more = FIXED_RUNS if request.fixed else (Run("onnxruntime-cuda", "fp32"),)
        return own_runs(request, *plain, *more)

    @staticmethod
    def write(request: ExportRequest) -> ModelFile:
        """The file itself."""
        return request.config.model

    @staticmethod
    def config(request: ExportRequest, model: ModelFile) -> PipelineConfig:
        """The baseline."""
        return on_onnxruntime(request, model)
