"""What the exports for phones and small boards share: conversion, and how the files run here."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from saccade.deploy.exports.contract import ExportRequest, why_not_float
from saccade.models.conversions.contract import ConversionRequest, way_from
from saccade.optimize.converting import converted
from saccade.pipeline.config import ModelFile, PipelineConfig

# Frames that a converted file is compared with the given one on.
COMPARED = 4
NO_FRAMES = "there are no frames to calibrate on"


def why_no_conversion(request: ExportRequest, target: str) -> str | None:
    """None where the model can be made into a format here, else the reason why not."""
    quantized = why_not_float(request)
    if quantized is not None:
        return quantized
    way = way_from(request.config.model, (target,))
    if way is None:
        return f"there is no way from {request.config.model.format} to {target}; bring PyTorch"
    return way.why_not()


def converted_file(request: ExportRequest, target: str) -> ModelFile:
    """The model in a format, made by an earlier export or now.

    Raises:
        ModelError: it cannot be converted, or answers differently; the layer is named.
    """
    inputs = np.concatenate(request.tensors[:COMPARED])
    asked = ConversionRequest(request.work, request.input_hw, inputs)
    return converted(request.config.model, (target,), asked)


def on_runtime(request: ExportRequest, model: ModelFile, runtime: str) -> PipelineConfig:
    """The baseline with this file, in a runtime of phones on this machine."""
    options = replace(
        request.config.options, precision="fp32", graph_level="default", channels_last=False
    )
    return replace(request.config, model=model, runtime=runtime, options=options)


def why_no_calibration(request: ExportRequest) -> str | None:
    """None where there is a float model, and frames enough to calibrate on."""
    from saccade.optimize.quantization.checked import why_too_few

    data = request.calibration
    return why_not_float(request) or why_too_few(len(data.images), data.video is not None)


class ConvertedExport:
    """Base of exports that are a conversion, and of those that quantize what one gives.

    Attributes:
        format: of the file.
        runtime: that runs it on this machine.
    """

    format: ClassVar[str]
    runtime: ClassVar[str]

    @classmethod
    def applies(cls, request: ExportRequest) -> str | None:
        """Needs a way to the format, and frames to compare on."""
        return why_no_conversion(request, cls.format) if request.tensors else NO_FRAMES

    @classmethod
    def write(cls, request: ExportRequest) -> ModelFile:
        """Convert.

        Raises:
            ModelError: it cannot be converted, or answers differently.
        """
        return converted_file(request, cls.format)

    @classmethod
    def config(cls, request: ExportRequest, model: ModelFile) -> PipelineConfig:
        """The runtime with this file."""
        return on_runtime(request, model, cls.runtime)
