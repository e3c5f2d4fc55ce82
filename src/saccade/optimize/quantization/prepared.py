"""The float model as quantizers want it: any shape, norms folded, a recent opset."""

from __future__ import annotations

import onnx

from saccade.errors import ModelError, first_line
from saccade.models.onnx_run import strictly_simplified
from saccade.optimize.quantization.calibration import Tensors
from saccade.pipeline.config import PipelineConfig

# From this one on, QuantizeLinear knows a step per channel.
LEAST_OPSET = 13


def float_model(config: PipelineConfig, samples: Tensors) -> onnx.ModelProto:
    """The ONNX model, dynamic where it can be, so that its shape may change later; norms folded.

    Raises:
        ModelError: it cannot be made dynamic, and its fixed shape is not that of every sample; or
            ONNX Runtime refuses it.
    """
    from saccade.models.onnx_model import read_onnx
    from saccade.models.reshape import can_reshape, reshape

    model = read_onnx(config.model.path)
    shape = config.description.input
    if not shape.dynamic:
        same = {sample.shape for sample in samples} == {(1, 3, shape.height, shape.width)}
        if not (same and can_reshape(model, None) is not None):
            model = reshape(model, None)
    return _folded(model)


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Batch norms as part of the convolutions before them, and weights as constants.

    A batch norm would stay float, and slow; a weight that is computed is not seen as one.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    computed = any(
        node.op_type == "BatchNormalization"
        or (node.op_type in ("Cast", "Constant") and set(node.input) <= constants)
        for node in model.graph.node
    )
    return recent(strictly_simplified(model) if computed else model)


def recent(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in an opset that knows rounding per channel.

    Raises:
        ModelError: it cannot be converted.
    """
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset >= LEAST_OPSET:
        return model
    from onnx import version_converter

    try:
        return version_converter.convert_version(model, LEAST_OPSET)
    except Exception as error:  # the converter's exceptions share no base
        raise ModelError(
            f"The model is in ONNX opset {opset}, and converting it to {LEAST_OPSET}, which "
            f"quantizing needs, fails ({first_line(error)}). Export it with a newer opset."
        ) from error
