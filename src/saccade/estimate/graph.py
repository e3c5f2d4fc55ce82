"""What a model's graph asks of a machine: operators, arithmetic, weights, live activations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saccade.errors import ModelError
from saccade.profile.flops import FREE_KINDS, Shape, operator_work, tensor_shapes

STANDARD_DOMAINS = ("", "ai.onnx")
# What a graph holds in int8 is wrapped in these, and runtimes fold them away.
QUANTIZING = frozenset({"QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True)
class Operator:
    """One node of the graph.

    Attributes:
        name: of the node.
        kind: ONNX operator.
        flops: operations per inference; a multiply-accumulate is two.
        elements: of inputs, weights and outputs, each touched once.
        outputs: names of the tensors it makes.
        inputs: names of the tensors it reads.
    """

    name: str
    kind: str
    flops: float
    elements: float
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class GraphFacts:
    """A model at one input size.

    Attributes:
        input_hw: height and width.
        dynamic: the file leaves height, width or batch open.
        operators: in order of execution, after constants were folded.
        weights: elements of all weights.
        live: largest number of elements of activations that must be alive at the same time.
        inputs: elements of all inputs.
        outputs: elements of all outputs.
    """

    input_hw: tuple[int, int]
    dynamic: bool
    operators: tuple[Operator, ...]
    weights: int
    live: int
    inputs: int
    outputs: int

    @property
    def flops(self) -> float:
        """Operations per inference."""
        return sum(op.flops for op in self.operators)


def read_graph(path: str | Path, input_hw: tuple[int, int]) -> GraphFacts:
    """Read a model as runtimes see it: sizes fixed, constants folded, batch norms fused.

    Raises:
        ModelError: it cannot be read, uses operators outside ONNX, or its shapes are not known.
    """
    from saccade.models.graph_reading import dims, real_inputs
    from saccade.models.onnx_file import read_onnx

    model = read_onnx(path)
    _check_standard(model)
    dynamic = any(size is None for value in real_inputs(model) for size in dims(value))
    simple = folded(model, input_hw)
    shapes = tensor_shapes(simple, input_hw)
    work = operator_work(simple, input_hw)
    operators = tuple(
        Operator(name, w.kind, w.flops, w.bytes / 4, w.inputs, w.outputs)
        for name, w in work.items()
    )
    constants = {tensor.name for tensor in simple.graph.initializer}
    return GraphFacts(
        input_hw=input_hw,
        dynamic=dynamic,
        operators=operators,
        weights=sum(math.prod(tensor.dims) for tensor in simple.graph.initializer),
        live=_most_alive(operators, shapes, constants, simple),
        inputs=sum(math.prod(shapes[value.name]) for value in real_inputs(simple)),
        outputs=sum(math.prod(shapes.get(value.name, ())) for value in simple.graph.output),
    )


def _check_standard(model: Any) -> None:
    from saccade.models.graph_reading import operator_label, operators
    from saccade.models.ort_support import unknown_operators

    foreign = {
        operator_label(node, model)
        for (domain, _), node in operators(model).items()
        if domain not in STANDARD_DOMAINS
    }
    foreign |= set(unknown_operators(model))  # also what ONNX's own domain has no such name for
    if foreign:
        raise ModelError(
            f"The model uses operators that are not ONNX's own: {', '.join(sorted(foreign)[:5])}. "
            "A runtime takes them only with a plug-in of yours; export the model without them."
        )


def folded(model: Any, input_hw: tuple[int, int]) -> Any:
    """A copy at a fixed size, after ONNX Runtime's basic rewriting (standard operators only).

    Constants are folded, shape arithmetic with them, and batch norms fused. A model that ONNX
    Runtime refuses is only given its size.
    """
    from saccade.models.onnx_run import simplified
    from saccade.profile.flops import with_input_size

    return simplified(with_input_size(model, input_hw))


def _most_alive(
    operators: tuple[Operator, ...], shapes: Mapping[str, Shape], constants: set[str], model: Any
) -> int:
    """Elements of the tensors alive at the operator where they are most.

    A tensor lives from the operator that makes it to the last that reads it; a reshaped tensor
    is the same memory under another name.
    """
    root: dict[str, str] = {}
    last: dict[str, int] = {}
    for index, op in enumerate(operators):
        for name in op.inputs:
            last[root.get(name, name)] = index
        if op.kind in FREE_KINDS and op.inputs:
            root.update({out: root.get(op.inputs[0], op.inputs[0]) for out in op.outputs})
    for value in model.graph.output:
        last[root.get(value.name, value.name)] = len(operators)
    alive = {
        value.name: math.prod(shapes[value.name])
        for value in model.graph.input
        if value.name not in constants
    }
    most = now = sum(alive.values())
    for index, op in enumerate(operators):
        for out in op.outputs:
            if out not in root and out not in alive:
                alive[out] = math.prod(shapes.get(out, ()))
                now += alive[out]
        most = max(most, now)
        for name in {root.get(name, name) for name in (*op.inputs, *op.outputs)}:
            if last.get(name, index) <= index:
                now -= alive.pop(name, 0)
    return most
