"""Which of a model's outputs its task reads, and the graph without the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import onnx

from saccade.errors import ModelError
from saccade.models.description import BoxOutputs, ModelDescription
from saccade.models.graph_reading import reads

# Decodes that read the first output and nothing else.
FIRST_ONLY = ("yolov5", "yolov8", "yolox", "logits", "probabilities", "planes", "indices")


def read_outputs(description: ModelDescription) -> tuple[int, ...] | None:
    """Indices of the outputs that the decode reads, in the graph's order; None for all of them.

    A decode that is not known here may read every output.
    """
    if description.outputs is not None:
        spec = description.outputs
        read = {spec.boxes, spec.scores, spec.labels, spec.count}
        return tuple(sorted(index for index in read if index is not None))
    return (0,) if description.decode.partition("+")[0] in FIRST_ONLY else None


def with_outputs(model: onnx.ModelProto, kept: Sequence[int]) -> onnx.ModelProto:
    """A copy of ``model`` with the outputs of these indices, and what they are computed from.

    Raises:
        ModelError: there is no such output.
    """
    outputs = list(model.graph.output)
    if not kept or max(kept) >= len(outputs):
        raise ModelError(
            f"The outputs {list(kept)} were to be kept, and the model has {len(outputs)}; "
            "expected at least one, each of them there."
        )
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _refill(result.graph.output, [outputs[index] for index in kept])
    drop_unneeded(result.graph)
    return result


def drop_unneeded(graph: onnx.GraphProto) -> None:
    """Take out everything that no output is computed from, in place."""
    needed, nodes = _needed(graph)
    constants = {tensor.name for tensor in graph.initializer}
    # Old files list constants among the inputs too; without its constant one would have to be fed.
    inputs = [v for v in graph.input if v.name in needed or v.name not in constants]
    _refill(graph.input, inputs)
    _refill(graph.node, nodes)
    _refill(graph.initializer, [t for t in graph.initializer if t.name in needed])
    sparse = [t for t in graph.sparse_initializer if t.values.name in needed]
    _refill(graph.sparse_initializer, sparse)
    _refill(graph.value_info, [value for value in graph.value_info if value.name in needed])


def described_with(description: ModelDescription, kept: Sequence[int]) -> ModelDescription:
    """What is known about a model, once only the outputs of these indices are left."""
    spec = description.outputs
    if spec is not None:
        spec = _moved(spec, {old: new for new, old in enumerate(kept)})
    sentence = "Outputs that the task does not read were taken out of the graph."
    return replace(description, outputs=spec, evidence=(*description.evidence, sentence))


def _moved(spec: BoxOutputs, places: dict[int, int]) -> BoxOutputs:
    return replace(
        spec,
        boxes=places[spec.boxes],
        scores=places[spec.scores],
        labels=None if spec.labels is None else places[spec.labels],
        count=None if spec.count is None else places[spec.count],
    )


def _needed(graph: onnx.GraphProto) -> tuple[set[str], list[onnx.NodeProto]]:
    """Names of all values that outputs are computed from, and the nodes, in the graph's order."""
    needed, nodes = {value.name for value in graph.output}, []
    # Nodes come after what they read, so that one pass from the end finds all.
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(reads(node))
    return needed, nodes[::-1]


def _refill(field: Any, values: Iterable[Any]) -> None:
    """Replace a repeated field; the values are copied first, as they may be of that field."""
    copies = []
    for value in values:
        copies.append(type(value)())
        copies[-1].CopyFrom(value)
    del field[:]
    field.extend(copies)
