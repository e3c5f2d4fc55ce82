"""ncnn's two files, for phones and small boards."""

from __future__ import annotations

from typing import ClassVar

from saccade.deploy.exports.contract import ExportRequest, Run
from saccade.deploy.exports.phones import (
    NO_FRAMES,
    converted_file,
    on_runtime,
    why_no_conversion,
)
from saccade.pipeline.config import ModelFile, PipelineConfig

FORMAT = RUNTIME = "ncnn"


class NcnnModel:
    """Float weights; ncnn rounds to halves itself where the CPU has them."""

    name: ClassVar[str] = "ncnn"
    label: ClassVar[str] = "ncnn"
    precision: ClassVar[str] = "fp32"

    @staticmethod
    def applies(request: ExportRequest) -> str | None:
        """Needs a way to ncnn's format, and frames to compare on."""
        return why_no_conversion(request, FORMAT) if request.tensors else NO_FRAMES

    @staticmethod
    def runs(request: ExportRequest) -> tuple[Run, ...]:
        """Ncnn in float, in half precision, and with bf16 storage."""
        return (Run(RUNTIME, "fp32"), Run(RUNTIME, "fp16"), Run(RUNTIME, "bf16"))

    @staticmethod
    def write(request: ExportRequest) -> ModelFile:
        """Convert.

        Raises:
            ModelError: it cannot be converted, or answers differently.
        """
        return converted_file(request, FORMAT)

    @staticmethod
    def config(request: ExportRequest, model: ModelFile) -> PipelineConfig:
        """Ncnn with these files."""
        return on_runtime(request, model, RUNTIME)
