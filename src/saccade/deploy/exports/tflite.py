"""LiteRT's format: in float, in int8 for phones, and in int8 to its ends for the Edge TPU."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from saccade.deploy.exports.contract import ExportRequest, Run
from saccade.deploy.exports.phones import ConvertedExport, why_no_calibration
from saccade.pipeline.config import ModelFile

if TYPE_CHECKING:
    from saccade.optimize.litert_recipe import Ports


class Tflite(ConvertedExport):
    """Float, pixels in NHWC."""

    name: ClassVar[str] = "tflite"
    label: ClassVar[str] = "LiteRT"
    precision: ClassVar[str] = "fp32"
    format: ClassVar[str] = "tflite"
    runtime: ClassVar[str] = "litert"

    @classmethod
    def runs(cls, request: ExportRequest) -> tuple[Run, ...]:
        """LiteRT."""
        return (Run(cls.runtime, cls.precision),)


class TfliteInt8(Tflite):
    """int8 inside; input and outputs stay float, which keeps close classes apart.

    Attributes:
        ports: what input and outputs are.
    """

    name: ClassVar[str] = "tflite_int8"
    label: ClassVar[str] = "LiteRT, int8"
    precision: ClassVar[str] = "int8"
    ports: ClassVar[Ports] = "float"

    @classmethod
    def applies(cls, request: ExportRequest) -> str | None:
        """Needs what the float file needs, the quantizer, and frames to calibrate on."""
        if find_spec("ai_edge_quantizer") is None:
            return "ai-edge-quantizer is not installed (pip install 'saccade[litert]')"
        return why_no_calibration(request) or super().applies(request)

    @classmethod
    def write(cls, request: ExportRequest) -> ModelFile:
        """Convert, and quantize in a process of its own, ranges averaged over the images.

        Raises:
            ModelError: it cannot be converted or quantized.
        """
        from saccade.optimize.litert_quantization import stored_int8, write_quantized
        from saccade.optimize.litert_recipe import LiteRtRecipe

        target = request.work / f"model-int8-{cls.ports}.tflite"
        config = cls.config(request, super().write(request))
        write_quantized(config, request.calibration, LiteRtRecipe(cls.ports), target)
        return stored_int8(target)


class TfliteFullInteger(TfliteInt8):
    """int8 from the input to the outputs: nothing else can be compiled for an Edge TPU."""

    name: ClassVar[str] = "tflite_full_integer"
    label: ClassVar[str] = "LiteRT, full-integer int8"
    ports: ClassVar[Ports] = "int8"

    @classmethod
    def runs(cls, request: ExportRequest) -> tuple[Run, ...]:
        """The Edge TPU, and LiteRT on the CPU beside it."""
        return (Run("edgetpu", cls.precision), *super().runs(request))
