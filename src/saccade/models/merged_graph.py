"""Two ONNX models as one with a single image input, and everything they have in common once.

Common subexpressions are found by value numbering: a node that does the same to the same inputs as
an earlier one is that one. Weights are the same where their values are, so two heads on one frozen
backbone become one graph with one backbone, exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import compose, helper, numpy_helper, version_converter

from saccade.errors import ModelError
from saccade.models.description import Preprocessing
from saccade.models.graph_reading import reads

PREFIX = "second/"
# Two nodes of these kinds draw other numbers.
_RANDOM = ("Random", "Bernoulli", "Multinomial", "Dropout")


def merged(
    first: onnx.ModelProto,
    second: onnx.ModelProto,
    inputs: tuple[str, str],
    preprocessing: tuple[Preprocessing, Preprocessing],
) -> onnx.ModelProto:
    """One model with the input of ``first`` and the outputs of both, those of ``first`` first.

    Args:
        first: feeds its image input to both.
        second: another model that sees frames in the same geometry.
        inputs: names of the image inputs.
        preprocessing: of both; where the second wants other colours or another normalization,
            they are made from the first's tensor within the graph.

    Raises:
        ModelError: the models cannot be brought to one version of ONNX.
    """
    first, second = _one_version(first, second)
    second = compose.add_prefix(second, PREFIX)
    result = onnx.ModelProto()
    result.CopyFrom(first)
    graph = result.graph
    del graph.value_info[:]
    image, other = inputs[0], PREFIX + inputs[1]
    graph.node.extend(_adapter(graph, image, other, preprocessing))
    graph.node.extend(second.graph.node)
    graph.initializer.extend(second.graph.initializer)
    graph.sparse_initializer.extend(second.graph.sparse_initializer)
    graph.output.extend(second.graph.output)
    known = {value.name for value in second.graph.initializer}
    graph.input.extend(
        value for value in second.graph.input if value.name != other and value.name in known
    )
    result.functions.extend(second.functions)
    deduplicate(result)
    return result


def _one_version(
    first: onnx.ModelProto, second: onnx.ModelProto
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Copies of both in the newer of their versions of ONNX.

    Raises:
        ModelError: one of them cannot be converted.
    """
    versions = [{op.domain: op.version for op in m.opset_import} for m in (first, second)]
    newest = max(v.get("", 1) for v in versions)
    for domain in versions[0].keys() & versions[1].keys() - {""}:
        if versions[0][domain] != versions[1][domain]:
            raise ModelError(f"The models use other versions of the operators of '{domain}'.")
    found = []
    for model, version in zip((first, second), versions, strict=True):
        try:
            same = version.get("", 1) == newest
            found.append(model if same else version_converter.convert_version(model, newest))
        except Exception as error:  # the converter's exceptions share no base
            raise ModelError(
                f"A model cannot be converted to version {newest} of ONNX's operators: {error}"
            ) from error
    one, other = (onnx.ModelProto(), onnx.ModelProto())
    one.CopyFrom(found[0])
    other.CopyFrom(found[1])
    one.ir_version = max(one.ir_version, other.ir_version)
    mine = {op.domain for op in one.opset_import}
    one.opset_import.extend(op for op in other.opset_import if op.domain not in mine)
    return one, other


def _adapter(
    graph: onnx.GraphProto,
    image: str,
    target: str,
    preprocessing: tuple[Preprocessing, Preprocessing],
) -> list[onnx.NodeProto]:
    """From the first's input tensor to the second's: channel order and one affine map."""
    mine, theirs = preprocessing
    factor, offset = affine_between(mine, theirs)
    nodes, current = [], image
    if mine.channel_order != theirs.channel_order:
        graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0]), "saccade_order"))
        nodes.append(
            helper.make_node("Gather", [current, "saccade_order"], ["saccade_swapped"], axis=1)
        )
        current = "saccade_swapped"
    kind = next(v for v in graph.input if v.name == image).type.tensor_type.elem_type
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for operator, values in (("Mul", factor), ("Add", offset)):
        if np.allclose(values, 1.0 if operator == "Mul" else 0.0, rtol=0, atol=1e-9):
            continue
        name = f"saccade_{operator.lower()}"
        constant = values.astype(dtype).reshape(1, 3, 1, 1)
        graph.initializer.append(numpy_helper.from_array(constant, f"{name}_by"))
        nodes.append(helper.make_node(operator, [current, f"{name}_by"], [name]))
        current = name
    nodes.append(helper.make_node("Identity", [current], [target], "saccade_second_input"))
    return nodes


def affine_between(
    mine: Preprocessing, theirs: Preprocessing
) -> tuple[
    np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.float64]]
]:
    """Factor and offset per channel, in the second's order, from the first tensor to the second."""
    turn = slice(None, None, -1) if mine.channel_order != theirs.channel_order else slice(None)
    mean, std = np.array(mine.mean, np.float64)[turn], np.array(mine.std, np.float64)[turn]
    ratio = theirs.scale / mine.scale / np.array(theirs.std, np.float64)
    # pixel * scale = x * std + mean, so the second is (pixel * scale - mean) / std again.
    return ratio * std, ratio * mean - np.array(theirs.mean, np.float64) / np.array(theirs.std)


def deduplicate(model: onnx.ModelProto) -> int:
    """Let equal initializers and equal nodes be one; how many nodes went away.

    The names and the order of the outputs stay.
    """
    graph = model.graph
    renamed = _equal_constants(graph)
    outputs = {value.name for value in graph.output}
    known: dict[tuple[object, ...], list[str]] = {}
    kept: list[onnx.NodeProto] = []
    ties: list[onnx.NodeProto] = []
    count = 0
    for node in graph.node:
        _rename_inputs(node, renamed)
        if node.op_type == "Identity" and node.output[0] not in outputs:
            renamed[node.output[0]] = node.input[0]
            continue
        key = _key(node)
        if key is None or key not in known:
            if key is not None:
                known[key] = list(node.output)
            kept.append(node)
            continue
        count += 1
        for mine, theirs in zip(node.output, known[key], strict=True):
            renamed[mine] = theirs
            if mine in outputs:
                ties.append(helper.make_node("Identity", [theirs], [mine]))
    del graph.node[:]
    graph.node.extend([*kept, *ties])
    _drop_unused(graph)
    return count


def _equal_constants(graph: onnx.GraphProto) -> dict[str, str]:
    """Names of initializers whose values an earlier one has, with that one's name."""
    first: dict[bytes, str] = {}
    renamed = {}
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        state = hashlib.sha256(f"{values.dtype}{values.shape}".encode())
        state.update(np.ascontiguousarray(values).tobytes())
        name = first.setdefault(state.digest(), tensor.name)
        if name != tensor.name:
            renamed[tensor.name] = name
    return renamed


def _rename_inputs(node: onnx.NodeProto, renamed: Mapping[str, str]) -> None:
    for index, name in enumerate(node.input):
        node.input[index] = renamed.get(name, name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                _rename_inputs(inner, renamed)


def _key(node: onnx.NodeProto) -> tuple[object, ...] | None:
    """What a node does, as a value; None where two of the kind may differ."""
    if node.op_type.startswith(_RANDOM) or any(
        a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute
    ):
        return None
    attributes = sorted((a.name, _bare(a)) for a in node.attribute)
    named = tuple(bool(name) for name in node.output)
    return node.domain, node.op_type, tuple(node.input), tuple(attributes), named


def _bare(attribute: onnx.AttributeProto) -> bytes:
    """An attribute's content; a tensor's name says nothing."""
    copy = onnx.AttributeProto()
    copy.CopyFrom(attribute)
    if copy.HasField("t"):
        copy.t.name = ""
    return bytes(copy.SerializeToString(deterministic=True))


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Initializers that no node reads any more."""
    used = {value.name for value in graph.output}
    for node in graph.node:
        used.update(reads(node))
    unused = {t.name for t in graph.initializer if t.name not in used}
    for values in (graph.initializer, graph.input):
        kept = [value for value in values if value.name not in unused]
        del values[:]
        values.extend(kept)
