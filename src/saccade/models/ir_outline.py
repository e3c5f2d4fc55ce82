"""What an OpenVINO model looks like, as an ONNX graph to read: it says everything but the values.

There is no way from OpenVINO's format to ONNX, and descriptions are read from ONNX: from names,
shapes, and which operators lie between. The outline has those, under the names that ONNX has for
them, and no weights. No runtime can run it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

# A domain that no runtime knows, so that none mistakes an outline for a model.
DOMAIN = "saccade.outline"
# ONNX's names of operators that a description asks about, where OpenVINO's are others.
_ONNX_NAMES = {
    "Convert": "Cast",
    "Convolution": "Conv",
    "ConvolutionBackpropData": "ConvTranspose",
    "Divide": "Div",
    "FakeQuantize": "QuantizeLinear",
    "GroupConvolution": "Conv",
    "GroupConvolutionBackpropData": "ConvTranspose",
    "MatrixNms": "NonMaxSuppression",
    "Multiply": "Mul",
    "MulticlassNms": "NonMaxSuppression",
    "SoftMax": "Softmax",
    "StridedSlice": "Slice",
    "VariadicSplit": "Split",
}
# Constants up to this many values are told: factors, shapes, thresholds.
_TOLD = 16


def outline(model: Any, metadata: Mapping[str, str], size: int) -> onnx.ModelProto:
    """The outline of an ``openvino.Model``, which is not changed.

    Args:
        model: as `openvino.Core.read_model` gives it.
        metadata: what else is known of it, as exporters put it into ONNX files.
        size: height and width, in pixels, that outputs are given the shapes for where the model
            leaves its input's open.
    """
    seen = _sized(model, size)
    writer = _Writer(seen)
    inputs = [_declared(port, writer.name(port)) for port in model.inputs]
    outputs = [
        _declared(result.input_value(0), writer.name(result.input_value(0)))
        for result in seen.get_results()
    ]
    graph = helper.make_graph(
        writer.nodes, "outline", inputs, outputs, writer.constants, value_info=writer.between
    )
    made = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)],
        producer_name=DOMAIN,
    )
    helper.set_model_props(made, dict(metadata))
    return made


def _sized(model: Any, size: int) -> Any:
    """A copy of the model whose open sides are closed, as far as it lets itself be reshaped."""
    copy = model.clone()
    (port, *others) = copy.inputs
    shape = port.partial_shape
    if others or shape.rank.is_dynamic or len(shape) != 4 or not shape.is_dynamic:
        return copy
    last = shape[3].is_static and shape[3].get_length() == 3
    usual = (1, size, size, 3) if last else (1, 3, size, size)
    sides = [s.get_length() if s.is_static else u for s, u in zip(shape, usual, strict=True)]
    try:
        copy.reshape(sides)
    except RuntimeError:  # it takes other sizes: outputs stay as open as they are declared
        return model.clone()
    return copy


class _Writer:
    """Nodes, constants and shapes of a model's operators, in order."""

    def __init__(self, model: Any) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.between: list[onnx.ValueInfoProto] = []
        self._fixed: set[str] = set()
        self._made_by: dict[str, str] = {}
        self._public = _public_names(model)
        for node in model.get_ordered_ops():
            self._write(node)

    def name(self, port: Any) -> str:
        """What a tensor is called: as the user knows it, where it goes in or comes out."""
        own = f"{port.get_node().get_friendly_name()}:{port.get_index()}"
        return self._public.get(own, own)

    def _write(self, node: Any) -> None:
        kind = node.get_type_name()
        if kind in ("Parameter", "Result"):
            return
        inputs = [self.name(port) for port in node.input_values()]
        outputs = [self.name(port) for port in node.outputs()]
        # What follows from constants alone is one, as weights that are stored rounded are; and so
        # is what follows from a shape that does not change.
        shape = kind == "ShapeOf" and node.input(0).get_partial_shape().is_static
        if shape or self._fixed.issuperset(inputs):
            self._fixed.update(outputs)
            self.constants += map(_constant, node.outputs(), outputs)
            return
        name = "Conv" if self._adds_bias(kind, inputs) else _ONNX_NAMES.get(kind, kind)
        self._made_by.update(dict.fromkeys(outputs, name))
        self.nodes.append(
            helper.make_node(name, inputs, outputs, node.get_friendly_name(), domain=DOMAIN)
        )
        self.between += [
            _declared(p, n)
            for p, n in zip(node.outputs(), outputs, strict=True)
            if n not in self._public.values()
        ]

    def _adds_bias(self, kind: str, inputs: list[str]) -> bool:
        """Whether an operator adds a convolution's bias, which ONNX has inside the convolution."""
        convolved = any(self._made_by.get(name) == "Conv" for name in inputs)
        return kind == "Add" and convolved and not self._fixed.isdisjoint(inputs)


def _public_names(model: Any) -> dict[str, str]:
    """Names of the tensors that go in and come out, by what they are called inside."""
    ports = [*model.inputs, *(result.input_value(0) for result in model.get_results())]
    return {
        f"{port.get_node().get_friendly_name()}:{port.get_index()}": (
            port.get_any_name() if port.get_names() else port.get_node().get_friendly_name()
        )
        for port in ports
    }


def _declared(port: Any, name: str) -> onnx.ValueInfoProto:
    shape = port.get_partial_shape()
    sides: list[int | str] | None = None
    if shape.rank.is_static:
        sides = [
            side.get_length() if side.is_static else f"{name}_{axis}"
            for axis, side in enumerate(shape)
        ]
    return helper.make_tensor_value_info(name, _element(port), sides)


def _element(port: Any) -> int:
    """ONNX's number of an element type; what ONNX or NumPy has no name for is undefined."""
    try:
        return int(helper.np_dtype_to_tensor_dtype(np.dtype(port.get_element_type().to_dtype())))
    except (KeyError, RuntimeError, TypeError, ValueError):
        return TensorProto.UNDEFINED


def _constant(port: Any, name: str) -> onnx.TensorProto:
    """A constant's shape and, where it is small and is held as it stands, its values."""
    told = _values(port)
    if told is not None:
        return onnx.numpy_helper.from_array(told, name)
    shape = port.get_partial_shape()
    sides = [side.get_length() for side in shape] if shape.is_static else []
    return onnx.TensorProto(name=name, data_type=_element(port) or TensorProto.FLOAT, dims=sides)


def _values(port: Any) -> NDArray[np.generic] | None:
    node = port.get_node()
    if node.get_type_name() == "Convert":  # weights stored as fp16 are widened by an operator
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant" or int(np.prod(node.get_output_shape(0))) > _TOLD:
        return None
    values: NDArray[np.generic] = np.asarray(node.get_data(), port.get_element_type().to_dtype())
    return values
