"""Whether ONNX Runtime takes a model, and which operators it lacks where it does not.

ONNX Runtime itself is asked, so that no list of operators and domains has to be kept.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from saccade.errors import ModelError, first_line
from saccade.models.graph_reading import operator_label, operators
from saccade.models.onnx_file import read_onnx

# How ONNX Runtime says that it has no operator of a name, in a domain of others' and in ONNX's own.
_UNKNOWN = re.compile(r"is not a registered function/op|No Op registered for ")
# What else it lacks, by its words, and what is to be done about that.
_LACKS = (
    (
        re.compile(r"Could not find an implementation for (?P<what>[^\s(]+)\((?P<opset>\d+)\)"),
        "ONNX Runtime has no implementation of {what} (opset {opset}) on the CPU for the types "
        "that '{name}' gives it. Export the model without it, or in fp32.",
    ),
    (
        re.compile(r"Type '(?P<type>[^']+)' of input .* of operator \((?P<what>[^)]+)\)"),
        "ONNX Runtime takes no {type} in {what}, which '{name}' gives it. Export the model without "
        "it, or in fp32.",
    ),
    (
        re.compile(r"Opset (?P<opset>\d+) is under .* (?P<what>\S+) is till opset (?P<last>\d+)"),
        "'{name}' is written for opset {opset} of {what}, and the ONNX Runtime installed here "
        "knows up to {last}. Export the model for opset {last} or an older one, or install a newer "
        "onnxruntime.",
    ),
    (
        re.compile(r"Unsupported model IR version: (?P<ir>\d+), max .*: (?P<last>\d+)"),
        "'{name}' has IR version {ir}, and the ONNX Runtime installed here knows up to {last}. "
        "Save the model with an older onnx package, or install a newer onnxruntime.",
    ),
)


def check_supported(path: str | Path) -> None:
    """Refuse an ONNX file that ONNX Runtime does not open on the CPU.

    Raises:
        ModelError: it does not; the message names what it lacks and says what to do.
    """
    import onnxruntime

    try:
        onnxruntime.InferenceSession(str(path), _quiet(), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base
        raise ModelError(_refusal(Path(path), error)) from error


def unknown_operators(model: onnx.ModelProto) -> tuple[str, ...]:
    """The operators of a graph that ONNX Runtime does not know in the model's opsets, sorted.

    Each is asked for alone: of a whole graph, ONNX Runtime names the first and gives up.

    Returns:
        As `saccade.models.graph_reading.operator_label` has them.
    """
    return tuple(
        operator_label(node, model)
        for _, node in sorted(operators(model).items())
        if _UNKNOWN.search(_said_of(node, model))
    )


def _refusal(path: Path, error: Exception) -> str:
    said = str(error)
    unknown = unknown_operators(read_onnx(path, weights=False)) if _UNKNOWN.search(said) else ()
    if unknown:
        return (
            f"'{path.name}' uses operators that ONNX Runtime does not have: {', '.join(unknown)}. "
            "Export the model without them, or for an opset that has them."
        )
    for pattern, sentences in _LACKS:
        found = pattern.search(said)
        if found is not None:
            return sentences.format(name=path.name, **found.groupdict())
    return (
        f"ONNX Runtime refuses '{path.name}' ({first_line(error)}). Check the file with "
        "onnx.checker.check_model, and export it again."
    )


def _said_of(node: onnx.NodeProto, model: onnx.ModelProto) -> str:
    """ONNX Runtime's answer to a graph of that node only; empty where it opens."""
    import onnxruntime

    try:
        onnxruntime.InferenceSession(
            _alone(node, model).SerializeToString(), _quiet(), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # what else is wrong with a node that stands alone does not matter
        return str(error)
    return ""


def _alone(node: onnx.NodeProto, model: onnx.ModelProto) -> onnx.ModelProto:
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name]
        for names in (dict.fromkeys(node.input), dict.fromkeys(node.output))
    )
    opsets = {entry.domain: entry for entry in model.opset_import}
    # What only functions use, they import themselves.
    opsets.setdefault(node.domain, helper.make_opsetid(node.domain, 1))
    bare = helper.make_node(node.op_type, node.input, node.output, domain=node.domain)
    return helper.make_model(
        helper.make_graph([bare], "alone", inputs, outputs),
        opset_imports=list(opsets.values()),
        ir_version=model.ir_version,
    )


def _quiet() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return options
