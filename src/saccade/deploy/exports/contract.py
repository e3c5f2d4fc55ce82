"""What an export is: it turns the model into a file of another kind, for runtimes elsewhere.

An export measures nothing and says nothing about speed. It is one file here and one line in
`saccade.plugins`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from numpy.typing import NDArray

from saccade.optimize.quantization.calibration import CalibrationData
from saccade.pipeline.config import ModelFile, PipelineConfig

# What trtexec is told of a file that says by itself how it rounds.
TENSORRT_INT8 = ("--int8", "--fp16")


@dataclass(frozen=True)
class Run:
    """One way to run an exported file on a device.

    Attributes:
        runtime: as in the targets' files.
        precision: of the arithmetic there.
        flags: of ``trtexec``, where TensorRT builds an engine from the file; ``{kit}`` stands for
            the kit's folder.
        judged_as: the export whose accuracy on this machine stands for it, itself by default.
    """

    runtime: str
    precision: str
    flags: tuple[str, ...] = ()
    judged_as: str = ""


@dataclass(frozen=True, eq=False)
class ExportRequest:
    """What is exported.

    Attributes:
        config: the baseline; its model is an ONNX file.
        input_hw: height and width in use.
        tensors: ``(1, 3, H, W)`` float32 each, preprocessed frames to calibrate on.
        calibration: what they were made from, for exports that preprocess on their own.
        work: where files may be written; a file of the same content may be used again.
    """

    config: PipelineConfig
    input_hw: tuple[int, int]
    tensors: tuple[NDArray[Any], ...]
    calibration: CalibrationData
    work: Path

    @property
    def fixed(self) -> bool:
        """The model has this size and no other."""
        return not self.config.description.input.dynamic


class Export(Protocol):
    """A kind of model file.

    Attributes:
        name: as in the table of plug-ins.
        label: what it is, for people.
        precision: of the weights in the file.
        at_any_size: True where it is made quickly, so that kits hold it at smaller sizes as well;
            an export may leave it out, which says False.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    precision: ClassVar[str]

    @staticmethod
    def applies(request: ExportRequest) -> str | None:
        """None where the file can be made here, else the reason why it cannot."""
        ...

    @staticmethod
    def runs(request: ExportRequest) -> tuple[Run, ...]:
        """How devices may run the file."""
        ...

    @staticmethod
    def write(request: ExportRequest) -> ModelFile:
        """Make the file.

        Raises:
            SaccadeError: a library refused the model.
        """
        ...

    @staticmethod
    def config(request: ExportRequest, model: ModelFile) -> PipelineConfig:
        """How the file is run here, to know its outputs and its accuracy."""
        ...


def why_not_float(request: ExportRequest) -> str | None:
    """None where the model's arithmetic is in floats: what rounds or converts it starts there."""
    return "the model came quantized, and this needs a float model" if _int8(request) else None


def own_runs(request: ExportRequest, *floats: Run) -> tuple[Run, ...]:
    """How devices run the model's own graph: as ``floats`` say, or in int8 where it is in that.

    TensorRT takes the file's own ranges then, without a calibration cache.
    """
    if not _int8(request):
        return floats
    names = list(dict.fromkeys(run.runtime for run in floats))
    return tuple(Run(name, "int8", TENSORRT_INT8 if name == "tensorrt" else ()) for name in names)


def _int8(request: ExportRequest) -> bool:
    return request.config.model.quantized


def on_onnxruntime(request: ExportRequest, model: ModelFile) -> PipelineConfig:
    """The baseline with another ONNX file."""
    return replace(request.config, model=model, runtime="onnxruntime")


def on_openvino(request: ExportRequest, model: ModelFile) -> PipelineConfig:
    """The baseline with an OpenVINO file, in fp32, so that only the file makes a difference."""
    options = replace(request.config.options, precision="fp32", graph_level="default")
    return replace(request.config, model=model, runtime="openvino", options=options)
