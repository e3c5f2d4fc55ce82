"""The constants of an ONNX graph: read them, replace them, and compute what follows from them."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from saccade.models.graph_reading import reads

# Folding these would undo a quantization or fix a random number.
_KEEP = frozenset(
    "QuantizeLinear DequantizeLinear DynamicQuantizeLinear Bernoulli "  # noqa: SIM905
    "RandomNormal RandomUniform RandomNormalLike RandomUniformLike".split()
)


class Constants:
    """Constants by tensor name, read when they are needed. Edits go into the model given."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a constant."""
        return tuple(self._tensors[name].dims)

    def array(self, name: str) -> NDArray[np.generic]:
        """Value of a constant."""
        return numpy_helper.to_array(self._tensors[name])

    def add(self, stem: str, array: NDArray[np.generic]) -> str:
        """Add a constant under a name that is still free, and return the name."""
        name, number = stem, 0
        while name in self._tensors:
            number += 1
            name = f"{stem}_{number}"
        self._model.graph.initializer.append(numpy_helper.from_array(array, name))
        self._tensors[name] = self._model.graph.initializer[-1]
        return name


def fold_constants(model: onnx.ModelProto) -> None:
    """Turn every node that depends on constants alone into a constant, in place."""
    constants = Constants(model)
    outputs = {value.name for value in model.graph.output}
    kept = []
    for node in model.graph.node:
        values = None if outputs & set(node.output) else _evaluate(model, node, constants)
        if values is None:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            kept.append(copy)
            continue
        for name, value in zip(node.output, values, strict=True):
            constants.add(name, value)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def drop_unused_constants(model: onnx.ModelProto) -> None:
    """Remove initializers that no node reads, in place."""
    used = {name for node in model.graph.node for name in reads(node)}
    used |= {value.name for value in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    if len(kept) < len(model.graph.initializer):
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)


def _evaluate(
    model: onnx.ModelProto, node: onnx.NodeProto, constants: Constants
) -> list[NDArray[np.generic]] | None:
    inputs = [name for name in node.input if name]
    if node.op_type in _KEEP or any(name not in constants for name in inputs):
        return None
    if any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute):
        return None
    graph = helper.make_graph(
        [node],
        "constant",
        [helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(inputs)],
        [helper.make_empty_tensor_value_info(name) for name in node.output],
    )
    single = helper.make_model(graph, opset_imports=model.opset_import)
    try:
        result = ReferenceEvaluator(single).run(
            None, {name: constants.array(name) for name in inputs}
        )
    except Exception:  # an operator outside the reference implementation stays as it is
        return None
    return [np.asarray(value) for value in result]
