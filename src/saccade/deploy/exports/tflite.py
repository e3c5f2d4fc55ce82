"""LiteRT's format: in float, in int8 for phones, and in int8 to its ends for the Edge TPU."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from saccade.deploy.exports.contract import ExportRequest, Run
from saccade.deploy.exports.phones import (
    NO_FRAMES,
    converted_file,
    on_runtime,
    why_no_conversion,
)
from saccade.pipeline.config import ModelFile, PipelineConfig

if TYPE_CHECKING:
    from saccade.optimize.litert_quantization import Ports

FORMAT, RUNTIME = "tflite", "litert"


class Tflite:
    """Float, pixels in NHWC."""

    name: ClassVar[str] = "tflite"
    label: ClassVar[str] = "LiteRT"
    precision: ClassVar[str] = "fp32"

    @staticmethod
    def applies(request: ExportRequest) -> str | None:
        """Needs a way to LiteRT's format, and frames to compare on."""
        return why_no_conversion(request, FORMAT) if request.tensors else NO_FRAMES

    @staticmethod
    def runs(request: ExportRequest) -> tuple[Run, ...]:
        """LiteRT."""
        return (Run(RUNTIME, "fp32"),)

    @staticmethod
    def write(request: ExportRequest) -> ModelFile:
        """Convert.

        Raises:
            ModelError: it cannot be converted, or answers differently.
        """
        return converted_file(request, FORMAT)

    @staticmethod
    def config(request: ExportRequest, model: ModelFile) -> PipelineConfig:
        """LiteRT with this file."""
        return on_runtime(request, model, RUNTIME)


class TfliteInt8:
    """int8 inside; input and outputs stay float, which keeps close classes apart."""

    name: ClassVar[str] = "tflite_int8"
    label: ClassVar[str] = "LiteRT, int8"
    precision: ClassVar[str] = "int8"

    @staticmethod
    def applies(request: ExportRequest) -> str | None:
        """Needs what the float file needs, the quantizer, and frames to calibrate on."""
        if find_spec("ai_edge_quantizer") is None:
            return "ai-edge-quantizer is not installed (pip install 'saccade[litert]')"
        if not request.calibration.images and not request.calibration.video:
            return NO_FRAMES
        return Tflite.applies(request)

    @staticmethod
    def runs(request: ExportRequest) -> tuple[Run, ...]:
        """LiteRT."""
        return (Run(RUNTIME, "int8"),)

    @staticmethod
    def write(request: ExportRequest) -> ModelFile:
        """Convert, and quantize in a process of its own.

        Raises:
            ModelError: it cannot be converted or quantized.
        """
        return quantized(request, "float")

    @staticmethod
    def config(request: ExportRequest, model: ModelFile) -> PipelineConfig:
        """LiteRT with this file."""
        return on_runtime(request, model, RUNTIME)


class TfliteFullInteger:
    """int8 from the input to the outputs: nothing else can be compiled for an Edge TPU."""

    name: ClassVar[str] = "tflite_full_integer"
    label: ClassVar[str] = "LiteRT, full-integer int8"
    precision: ClassVar[str] = "int8"

    @staticmethod
    def applies(request: ExportRequest) -> str | None:
        """As for int8."""
        return TfliteInt8.applies(request)

    @staticmethod
    def runs(request: ExportRequest) -> tuple[Run, ...]:
        """The Edge TPU, and LiteRT on the CPU beside it."""
        return (Run("edgetpu", "int8"), Run(RUNTIME, "int8"))

    @staticmethod
    def write(request: ExportRequest) -> ModelFile:
        """Convert, and quantize in a process of its own.

        Raises:
            ModelError: it cannot be converted or quantized.
        """
        return quantized(request, "int8")

    @staticmethod
    def config(request: ExportRequest, model: ModelFile) -> PipelineConfig:
        """LiteRT with this file."""
        return on_runtime(request, model, RUNTIME)


def quantized(request: ExportRequest, ports: Ports) -> ModelFile:
    """The float file in int8, ranges averaged over the images.

    Raises:
        ModelError: it cannot be converted or quantized.
    """
    from saccade.optimize.litert_quantization import stored_int8, write_quantized

    target = request.work / f"model-int8-{ports}.tflite"
    config = on_runtime(request, converted_file(request, FORMAT), RUNTIME)
    write_quantized(config, request.calibration, "mean", ports, target)
    return stored_int8(target)
