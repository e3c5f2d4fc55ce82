"""ONNX with int8 weights and activations (QDQ), in the two forms that runtimes want."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from saccade.deploy.exports.contract import ExportRequest, Run, on_onnxruntime
from saccade.deploy.exports.phones import why_no_calibration
from saccade.errors import RuntimeFailure
from saccade.models.files import model_file
from saccade.pipeline.config import ModelFile, PipelineConfig

# Convolutions before an output that stay float. A detector's head is three deep.
FLOAT_DEPTH = {"detection": 3, "tracking": 3, "instance_segmentation": 3}
OTHER_DEPTH = 1
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What the symmetric form quantizes: TensorRT fuses the rest itself, and a Sigmoid whose outputs are
# never negative would lose half of the steps around zero.
SYMMETRIC_KINDS = ["Conv", "Gemm", "MatMul", "Add", "Concat", "MaxPool", "Resize", "Relu", "Clip"]
CALIBRATION_TENSORS = 16
# The first operator set in which DequantizeLinear takes an axis.
PER_CHANNEL_OPSET = 13


class OnnxInt8:
    """Unsigned activations, signed weights per channel: fast on x86 with VNNI."""

    name: ClassVar[str] = "onnx_int8"
    label: ClassVar[str] = "ONNX, int8 (QDQ, u8 activations)"
    precision: ClassVar[str] = "int8"
    at_any_size: ClassVar[bool] = True

    @staticmethod
    def applies(request: ExportRequest) -> str | None:
        """Needs frames to calibrate on."""
        return why_no_calibration(request)

    @staticmethod
    def runs(request: ExportRequest) -> tuple[Run, ...]:
        """ONNX Runtime on CPUs."""
        return (Run("onnxruntime", "int8"),)

    @staticmethod
    def write(request: ExportRequest) -> ModelFile:
        """Quantize with ONNX Runtime.

        Raises:
            RuntimeFailure: it refused the model.
        """
        return quantized(request, symmetric=False)

    @staticmethod
    def config(request: ExportRequest, model: ModelFile) -> PipelineConfig:
        """The baseline with this file."""
        return on_onnxruntime(request, model)


class OnnxInt8Symmetric:
    """Signed activations around zero: what TensorRT demands and Arm CPUs like."""

    name: ClassVar[str] = "onnx_int8_symmetric"
    label: ClassVar[str] = "ONNX, int8 (QDQ, symmetric)"
    precision: ClassVar[str] = "int8"
    at_any_size: ClassVar[bool] = True

    @staticmethod
    def applies(request: ExportRequest) -> str | None:
        """Needs frames to calibrate on."""
        return OnnxInt8.applies(request)

    @staticmethod
    def runs(request: ExportRequest) -> tuple[Run, ...]:
        """TensorRT, and ONNX Runtime on CPUs."""
        return (
            Run("tensorrt", "int8", ("--int8", "--fp16")),
            Run("onnxruntime-tensorrt", "int8"),
            Run("onnxruntime", "int8"),
        )

    @staticmethod
    def write(request: ExportRequest) -> ModelFile:
        """Quantize with ONNX Runtime.

        Raises:
            RuntimeFailure: it refused the model.
        """
        return quantized(request, symmetric=True)

    @staticmethod
    def config(request: ExportRequest, model: ModelFile) -> PipelineConfig:
        """The baseline with this file."""
        return on_onnxruntime(request, model)


def quantized(request: ExportRequest, symmetric: bool) -> ModelFile:
    """Calibrate on the request's tensors (smallest and largest values) and write a QDQ file.

    Raises:
        DataError: the calibration images are not of the kind that the model is used on.
        RuntimeFailure: ONNX Runtime's quantizer refused the model.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    from saccade.optimize.quantization import activations
    from saccade.optimize.quantization.checked import check_calibration

    model = float_model(request)
    observe = partial(activations.observe, onnx.load(str(model)))
    check_calibration(request.config, request.calibration, observe(request.tensors), observe)
    name = "symmetric" if symmetric else "u8"
    target = request.work / f"model-int8-{name}.onnx"
    depth = FLOAT_DEPTH.get(request.config.task, OTHER_DEPTH)
    try:
        with quiet():
            quantize_static(
                str(model),
                str(target),
                Tensors(request),
                quant_format=QuantFormat.QDQ,
                per_channel=operator_set(onnx.load(str(model))) >= PER_CHANNEL_OPSET,
                activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=SYMMETRIC_KINDS if symmetric else None,
                nodes_to_exclude=head_nodes(model, depth),
                # TensorRT takes float biases only.
                extra_options={"ActivationSymmetric": symmetric, "QuantizeBias": not symmetric},
            )
    except Exception as error:  # its own errors share no base
        raise RuntimeFailure(f"ONNX Runtime's quantizer refused the model: {error}") from error
    return replace(model_file(target), stored="int8")


def float_model(request: ExportRequest) -> Path:
    """The fixed-size model with a name for every node, which the quantizer goes by."""
    import onnx

    from saccade.estimate.graph import folded
    from saccade.models.onnx_file import read_onnx

    path = request.work / "model-float.onnx"
    if not path.exists():
        model = upgraded(folded(read_onnx(request.config.model.path), request.input_hw))
        for index, node in enumerate(model.graph.node):
            node.name = node.name or f"{node.op_type}_{index}"
        onnx.save(model, str(path))
    return path


def upgraded(model: Any) -> Any:
    """The model in an operator set that has scales per channel, where ONNX can convert it."""
    from onnx import version_converter

    if operator_set(model) >= PER_CHANNEL_OPSET:
        return model
    try:
        return version_converter.convert_version(model, PER_CHANNEL_OPSET)
    except Exception:  # it knows only some operators; then one scale has to do for a tensor
        return model


def operator_set(model: Any) -> int:
    """Version of ONNX's own operators that the model uses."""
    own = (entry for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return max(int(entry.version) for entry in own)


def head_nodes(path: Path, depth: int) -> list[str]:
    """Names of the nodes fewer than ``depth`` weighted layers away from an output, and it."""
    import onnx

    graph = onnx.load(str(path)).graph
    made_by = {name: node for node in graph.node for name in node.output}
    queue = [(value.name, 0) for value in graph.output]
    best: dict[str, int] = {}
    found: set[str] = set()
    while queue:
        tensor, layers = queue.pop()
        node = made_by.get(tensor)
        if node is None or layers >= depth or best.get(tensor, depth) <= layers:
            continue
        best[tensor] = layers
        found.add(node.name)
        step = 1 if node.op_type in WEIGHTED else 0
        queue += [(name, layers + step) for name in node.input]
    return sorted(found)


class Tensors:
    """A calibration data reader: the request's tensors, one after the other."""

    def __init__(self, request: ExportRequest) -> None:
        name = request.config.description.input.name
        self._left: Iterator[Any] = iter(
            [{name: tensor} for tensor in request.tensors[:CALIBRATION_TENSORS]]
        )

    def get_next(self) -> Any:
        """The next feed, None at the end."""
        return next(self._left, None)


class quiet:  # noqa: N801 - used as a statement
    """Keeps the quantizer's advice off the screen."""

    def __enter__(self) -> None:
        logging.disable(logging.WARNING)

    def __exit__(self, *exc: object) -> None:
        logging.disable(logging.NOTSET)
