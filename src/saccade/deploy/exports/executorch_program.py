"""ExecuTorch's ``.pte``, in float and in int8, for phones. Both start from a PyTorch program."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import ClassVar

from saccade.deploy.exports.contract import ExportRequest, Run
from saccade.deploy.exports.phones import (
    NO_FRAMES,
    converted_file,
    on_runtime,
    why_no_conversion,
)
from saccade.models.files import model_file
from saccade.pipeline.config import ModelFile, PipelineConfig

FORMAT = RUNTIME = "executorch"


class ExecuTorchProgram:
    """Float, delegated to XNNPACK."""

    name: ClassVar[str] = "executorch"
    label: ClassVar[str] = "ExecuTorch"
    precision: ClassVar[str] = "fp32"

    @staticmethod
    def applies(request: ExportRequest) -> str | None:
        """Needs ExecuTorch, a PyTorch program, and frames to compare on."""
        return why_no_conversion(request, FORMAT) if request.tensors else NO_FRAMES

    @staticmethod
    def runs(request: ExportRequest) -> tuple[Run, ...]:
        """ExecuTorch."""
        return (Run(RUNTIME, "fp32"),)

    @staticmethod
    def write(request: ExportRequest) -> ModelFile:
        """Lower the program.

        Raises:
            ModelError: it cannot be lowered, or answers differently.
        """
        return converted_file(request, FORMAT)

    @staticmethod
    def config(request: ExportRequest, model: ModelFile) -> PipelineConfig:
        """ExecuTorch with this file."""
        return on_runtime(request, model, RUNTIME)


class ExecuTorchInt8:
    """int8 by XNNPACK's symmetric scheme, weights per channel."""

    name: ClassVar[str] = "executorch_int8"
    label: ClassVar[str] = "ExecuTorch, int8"
    precision: ClassVar[str] = "int8"

    @staticmethod
    def applies(request: ExportRequest) -> str | None:
        """Needs what the float file needs, torchao, and frames to calibrate on."""
        if find_spec("torchao") is None:
            return "torchao is not installed (pip install 'saccade[executorch]')"
        if not request.calibration.images and not request.calibration.video:
            return NO_FRAMES
        return ExecuTorchProgram.applies(request)

    @staticmethod
    def runs(request: ExportRequest) -> tuple[Run, ...]:
        """ExecuTorch."""
        return (Run(RUNTIME, "int8"),)

    @staticmethod
    def write(request: ExportRequest) -> ModelFile:
        """Quantize and lower in a process of its own.

        Raises:
            ModelError: the quantizer or ExecuTorch refused the program.
        """
        from saccade.optimize.executorch_quantization import write_quantized

        program = request.config.model.program
        assert program is not None  # `applies` has looked
        target = request.work / "model-int8.pte"
        write_quantized(request.config, request.calibration, program, target)
        return replace(model_file(target), stored="int8")

    @staticmethod
    def config(request: ExportRequest, model: ModelFile) -> PipelineConfig:
        """ExecuTorch with this file."""
        return on_runtime(request, model, RUNTIME)
