"""A short summary of an ONNX file, for people and for ``saccade init``."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

import onnx

from saccade.models import graph_reading as graph
from saccade.models.onnx_file import external_files, read_onnx
from saccade.models.onnx_model import read_metadata
from saccade.models.stored_as import stored_as


def summarize(path: str | Path) -> dict[str, Any]:
    """What the file holds, JSON-ready; any ONNX model, detector or not.

    Returns:
        ``inputs`` and ``outputs`` (name, dtype, shape with None for dynamic), ``opset``,
        ``producer``, ``parameters`` (number of weights), ``size_mb`` (10^6 bytes, external data
        included), ``precision`` (``fp32``, ``fp16``, ``bf16``, ``int8`` or ``mixed``),
        ``operators`` (nodes), ``license`` and ``description`` from the metadata.

    Raises:
        ModelError: the file cannot be read as ONNX.
    """
    path = Path(path)
    model = read_onnx(path, weights=False)
    metadata = read_metadata(model)
    files = [path, *external_files(model, path.parent)]
    return {
        "inputs": [_value(value) for value in graph.real_inputs(model)],
        "outputs": [_value(value) for value in model.graph.output],
        "opset": max(
            (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
            default=0,
        ),
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "parameters": sum(prod(tensor.dims) for tensor in _weights(model)),
        "size_mb": round(sum(file.stat().st_size for file in files) / 1e6, 3),
        "precision": _precision(model),
        "operators": len(model.graph.node),
        "license": metadata.get("license", ""),
        "description": metadata.get("description", ""),
    }


def _value(value: onnx.ValueInfoProto) -> dict[str, Any]:
    return {
        "name": value.name,
        "dtype": graph.dtype_name(value),
        "shape": list(graph.dims(value)),
    }


def _weights(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Numeric constants, in initializers or in Constant nodes; no shapes and axes (int64)."""
    tensors = list(model.graph.initializer)
    for node in model.graph.node:
        tensors += [a.t for a in node.attribute if node.op_type == "Constant" and a.name == "value"]
    return [tensor for tensor in tensors if tensor.data_type != onnx.TensorProto.INT64]


def _precision(model: onnx.ModelProto) -> str:
    """The element type of nearly all weights, or of the arithmetic where it is quantized."""
    if stored_as(model) != "fp32":
        return "int8"
    names: dict[int, str] = {
        onnx.TensorProto.FLOAT: "fp32",
        onnx.TensorProto.FLOAT16: "fp16",
        onnx.TensorProto.BFLOAT16: "bf16",
        onnx.TensorProto.INT8: "int8",
        onnx.TensorProto.UINT8: "int8",
    }
    counts: Counter[str] = Counter()
    for tensor in _weights(model):
        counts[names.get(int(tensor.data_type), "other")] += prod(tensor.dims)
    if not counts:
        return "fp32"
    name, most = counts.most_common(1)[0]
    return name if most >= 0.95 * counts.total() else "mixed"
