"""OpenVINO IR: in float with half-precision weights, and in int8 by NNCF."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import ClassVar

from saccade.deploy.exports.contract import ExportRequest, Run, on_openvino, why_not_float
from saccade.deploy.exports.phones import why_no_calibration
from saccade.errors import RuntimeFailure
from saccade.pipeline.config import ModelFile, PipelineConfig
from saccade.runtimes.openvino_core import openvino_core


class OpenVinoIr:
    """IR with weights kept as fp16, executed in what the CPU does best."""

    name: ClassVar[str] = "openvino_ir"
    label: ClassVar[str] = "OpenVINO IR, fp16 weights"
    precision: ClassVar[str] = "fp16"
    at_any_size: ClassVar[bool] = True

    @staticmethod
    def applies(request: ExportRequest) -> str | None:
        """Needs OpenVINO, and a float model."""
        return why_not_float(request) if find_spec("openvino") else _missing("openvino")

    @staticmethod
    def runs(request: ExportRequest) -> tuple[Run, ...]:
        """OpenVINO, in every float precision."""
        return (Run("openvino", "fp32"), Run("openvino", "bf16"), Run("openvino", "fp16"))

    @staticmethod
    def write(request: ExportRequest) -> ModelFile:
        """Convert and save.

        Raises:
            RuntimeFailure: OpenVINO refused the model.
        """
        import openvino as ov

        from saccade.optimize.quantization.make import quantized_model

        target = request.work / "model-ir.xml"
        try:
            model = openvino_core().read_model(request.config.model.path)
            model.reshape([1, 3, *request.input_hw])
            ov.save_model(model, str(target), compress_to_fp16=True)
        except Exception as error:  # OpenVINO's exceptions share no base
            raise RuntimeFailure(f"OpenVINO refused the model: {error}") from error
        # Its hash covers both files; only the weights' storage differs.
        return replace(quantized_model(target), stored="fp16")

    @staticmethod
    def config(request: ExportRequest, model: ModelFile) -> PipelineConfig:
        """OpenVINO with this file."""
        return on_openvino(request, model)


class OpenVinoInt8:
    """IR quantized by NNCF, output layers in float, as the change ``int8`` makes it."""

    name: ClassVar[str] = "openvino_int8"
    label: ClassVar[str] = "OpenVINO IR, int8"
    precision: ClassVar[str] = "int8"
    at_any_size: ClassVar[bool] = True

    @staticmethod
    def applies(request: ExportRequest) -> str | None:
        """Needs OpenVINO, NNCF and frames."""
        missing = next((name for name in ("openvino", "nncf") if find_spec(name) is None), None)
        if missing:
            return _missing(missing)
        return why_no_calibration(request)

    @staticmethod
    def runs(request: ExportRequest) -> tuple[Run, ...]:
        """OpenVINO."""
        return (Run("openvino", "int8"),)

    @staticmethod
    def write(request: ExportRequest) -> ModelFile:
        """Quantize in a process of its own.

        Raises:
            RuntimeFailure: NNCF or OpenVINO refused the model.
        """
        from saccade.optimize.quantization.make import QuantizationJob, quantized_model, run_job
        from saccade.optimize.quantization.recipe import OUTPUT_FLOAT, Recipe

        target = request.work / "model-int8.xml"
        config = replace(request.config, shape="square")
        recipe = Recipe(float_depth=OUTPUT_FLOAT)
        cache = request.work / "sensitivity.json"
        run_job(QuantizationJob(config, "openvino", recipe, request.calibration, cache), target)
        return quantized_model(target)

    @staticmethod
    def config(request: ExportRequest, model: ModelFile) -> PipelineConfig:
        """OpenVINO with this file."""
        return on_openvino(request, model)


def _missing(package: str) -> str:
    return f"{package} is not installed (pip install 'saccade[openvino]')"
