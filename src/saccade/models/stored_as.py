"""Whether an ONNX graph computes in int8, or stores its weights so, by its operators. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx

from saccade.pipeline.config import Stored

# Arithmetic in integers (QOperator form), or ranges found while running: float models have none.
# Those with a domain of their own are ONNX Runtime's (domain com.microsoft).
_INTEGER = frozenset(
    (
        "ConvInteger",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "MatMulIntegerToFloat",
        "QAttention",
        "QEmbedLayerNormalization",
        "QGemm",
        "QLinearAdd",
        "QLinearAveragePool",
        "QLinearConcat",
        "QLinearGlobalAveragePool",
        "QLinearLeakyRelu",
        "QLinearMul",
        "QLinearSigmoid",
        "QLinearSoftmax",
        "QLinearWhere",
        "QMoE",
    )
)
# Weights in few bits beside float activations.
_WEIGHT_ONLY = frozenset(("MatMulNBits", "MatMulBnb4", "GatherBlockQuantized"))
_ROUND, _BACK = "QuantizeLinear", "DequantizeLinear"


def stored_as(model: onnx.ModelProto) -> Stored:
    """What a graph says of its own arithmetic.

    ``"int8"`` where an activation is rounded anywhere (QDQ), or an operator works on integers
    (QOperator), in the graph, in a branch or loop of it, or in a function; 4-bit and 8-bit-float
    variants count as well, as what matters is that nothing may round the model again.
    ``"int8_weights"`` where only constants are rounded. Else ``"fp32"``, also for weights in fp16.

    Args:
        model: its weights may have been left out; it is not changed.
    """
    found: set[Stored] = {_of_nodes(*scope) for scope in _scopes(model)}
    order: tuple[Stored, ...] = ("int8", "int8_weights")
    return next((stored for stored in order if stored in found), "fp32")


_Scope = tuple[Iterable[onnx.NodeProto], frozenset[str]]


def _scopes(model: onnx.ModelProto) -> Iterator[_Scope]:
    """Nodes that see the same names, and the names of constants among those."""
    yield from _within(model.graph, frozenset())
    for function in model.functions:
        yield function.node, frozenset()


def _within(graph: onnx.GraphProto, outside: frozenset[str]) -> Iterator[_Scope]:
    constants = outside | {tensor.name for tensor in graph.initializer}
    yield graph.node, constants
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else ())):
                yield from _within(inner, constants)


def _of_nodes(nodes: Iterable[onnx.NodeProto], given: frozenset[str]) -> Stored:
    constants = set(given)
    stored: Stored = "fp32"
    for node in nodes:
        constant = set(node.input) - {""} <= constants
        if node.op_type in _INTEGER or (node.op_type == _ROUND and not constant):
            return "int8"
        if node.op_type in _WEIGHT_ONLY or (node.op_type == _BACK and constant):
            stored = "int8_weights"
        if constant and (node.input or node.op_type == "Constant"):
            constants.update(node.output)
    return stored
