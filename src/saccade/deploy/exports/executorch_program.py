"""ExecuTorch's ``.pte``, in float and in int8, for phones. Both start from a PyTorch program."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import ClassVar

from saccade.deploy.exports.contract import ExportRequest, Run
from saccade.deploy.exports.phones import ConvertedExport, why_no_calibration
from saccade.models.files import model_file
from saccade.pipeline.config import ModelFile


class ExecuTorchProgram(ConvertedExport):
    """Float, delegated to XNNPACK."""

    name: ClassVar[str] = "executorch"
    label: ClassVar[str] = "ExecuTorch"
    precision: ClassVar[str] = "fp32"
    format: ClassVar[str] = "executorch"
    runtime: ClassVar[str] = "executorch"

    @classmethod
    def runs(cls, request: ExportRequest) -> tuple[Run, ...]:
        """ExecuTorch."""
        return (Run(cls.runtime, cls.precision),)


class ExecuTorchInt8(ExecuTorchProgram):
    """int8 by XNNPACK's symmetric scheme, weights per channel."""

    name: ClassVar[str] = "executorch_int8"
    label: ClassVar[str] = "ExecuTorch, int8"
    precision: ClassVar[str] = "int8"

    @classmethod
    def applies(cls, request: ExportRequest) -> str | None:
        """Needs what the float file needs, torchao, and frames to calibrate on."""
        if find_spec("torchao") is None:
            return "torchao is not installed (pip install 'saccade[executorch]')"
        return why_no_calibration(request) or super().applies(request)

    @classmethod
    def write(cls, request: ExportRequest) -> ModelFile:
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
