"""The tiny detector in the formats of phones, written without the converters that make them.

Converters are heavy and live elsewhere; a runtime's contract can be checked without them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 64


def write_tflite(
    path: Path,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    hw: tuple[int, int] | None,
) -> Path:
    """One convolution, ReLU and the join of its cells, as LiteRT lays it out: pixels in NHWC.

    Args:
        path: where to write.
        weight: ``(K, 3, S, S)``, whose stride is S.
        bias: ``(K,)``.
        hw: input height and width; None for one that may be resized.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    channels, _, stride, _ = weight.shape
    height, width = hw or (SIDE, SIDE)
    rows, columns = height // stride, width // stride
    kernel = np.ascontiguousarray(weight.transpose(0, 2, 3, 1))
    order, target = np.array([0, 3, 1, 2], np.int32), np.array([1, channels, -1], np.int32)
    graph = _Graph(schema)
    image = graph.tensor("images", (1, height, width, 3))
    constants = [graph.constant(n, v) for n, v in (("kernel", kernel), ("bias", bias))]
    cells = graph.tensor("cells", (1, rows, columns, channels))
    planes = graph.tensor("planes", (1, channels, rows, columns))
    joined = graph.tensor("output0", (1, channels, rows * columns))
    graph.operator("CONV_2D", [image, *constants], cells, _convolution(schema, stride), "Conv2D")
    turn = schema.TransposeOptionsT()
    graph.operator("TRANSPOSE", [cells, graph.constant("order", order)], planes, turn, "Transpose")
    shape = schema.ReshapeOptionsT()
    shape.newShape = target
    graph.operator("RESHAPE", [planes, graph.constant("target", target)], joined, shape, "Reshape")
    builder = flatbuffers.Builder(1024)
    builder.Finish(graph.model(image, joined).Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _convolution(schema: Any, stride: int) -> Any:
    options = schema.Conv2DOptionsT()
    options.padding = schema.Padding.VALID
    options.strideW = options.strideH = stride
    options.dilationWFactor = options.dilationHFactor = 1
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    return options


class _Graph:
    """Collects tensors, buffers and operators of one graph."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._graph = schema.SubGraphT()
        self._graph.name = "main"
        self._graph.tensors, self._graph.operators = [], []
        self._buffers = [schema.BufferT()]  # the first one is empty, by convention
        self._codes: list[Any] = []

    def tensor(self, name: str, shape: tuple[int, ...], dtype: Any = np.float32) -> int:
        made = self._schema.TensorT()
        made.name, made.shape = name, list(shape)
        kinds = self._schema.TensorType
        made.type = {np.float32: kinds.FLOAT32, np.int32: kinds.INT32}[dtype]
        self._graph.tensors.append(made)
        return len(self._graph.tensors) - 1

    def constant(self, name: str, values: NDArray[Any]) -> int:
        index = self.tensor(name, values.shape, values.dtype.type)
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self._graph.tensors[index].buffer = len(self._buffers)
        self._buffers.append(buffer)
        return index

    def operator(self, kind: str, inputs: list[int], output: int, options: Any, name: str) -> None:
        code, made = self._schema.OperatorCodeT(), self._schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(self._schema.BuiltinOperator, kind)
        code.version = 1
        made.opcodeIndex, made.inputs, made.outputs = len(self._codes), inputs, [output]
        made.builtinOptionsType = getattr(self._schema.BuiltinOptions, f"{name}Options")
        made.builtinOptions = options
        self._codes.append(code)
        self._graph.operators.append(made)

    def model(self, image: int, output: int) -> Any:
        self._graph.inputs, self._graph.outputs = [image], [output]
        made = self._schema.ModelT()
        made.version, made.subgraphs = 3, [self._graph]
        made.operatorCodes, made.buffers = self._codes, self._buffers
        made.signatureDefs = [self._signature(image, output)]
        return made

    def _signature(self, image: int, output: int) -> Any:
        """The entry point, by which quantizers feed a model."""
        made = self._schema.SignatureDefT()
        made.signatureKey, made.subgraphIndex = "serving_default", 0
        made.inputs, made.outputs = [self._schema.TensorMapT()], [self._schema.TensorMapT()]
        made.inputs[0].name, made.inputs[0].tensorIndex = "images", image
        made.outputs[0].name, made.outputs[0].tensorIndex = "output0", output
        return made


def write_ncnn(path: Path, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> Path:
    """The same as ncnn's two files; it takes any size.

    Format: ncnn, ``docs/developer-guide/param-and-model-file-structure.md``.
    """
    channels, _, stride, _ = weight.shape
    settings = f"0={channels} 1={stride} 3={stride} 5=1 6={weight.size} 9=1"
    lines = (
        "7767517",
        "3 3",
        "Input images 0 1 images",
        f"Convolution conv 1 1 images cells {settings}",
        f"Reshape join 1 1 cells output0 0=-1 1={channels}",
    )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    tag = np.zeros(1, np.uint32)  # says that the weights are plain float32
    path.with_suffix(".bin").write_bytes(tag.tobytes() + weight.tobytes() + bias.tobytes())
    return path
