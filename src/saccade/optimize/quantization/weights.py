"""Smaller files of the same float model: weights as fp16, or as int8 with a step per channel.

NNCF 3.4 compresses the weights of ONNX models too, but gives a depthwise convolution's scales a
shape that ONNX Runtime refuses, so the few lines are here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from saccade.errors import ModelError
from saccade.models.files import model_file
from saccade.models.onnx_file import read_onnx
from saccade.models.onnx_save import save_apart, save_onnx
from saccade.optimize.quantization.layers import layers, named
from saccade.optimize.quantization.prepared import recent
from saccade.optimize.quantization.rounding import integer_weights
from saccade.optimize.workshop import workshop
from saccade.pipeline.config import ModelFile, Stored, digest

# Smaller tensors are not worth a node of their own.
LEAST_VALUES = 256
METHOD = "weights 1"
WORKER = "saccade.optimize.quantization.weights:WeightWorker"
# Beside a model whose weights are mapped.
DATA = ".weights"


def stored_file(model: ModelFile, stored: Stored, folder: Path) -> ModelFile:
    """The model with its weights stored otherwise; a file that is already there is used again.

    Raises:
        ModelError: a weight does not fit, or there is none.
    """
    target = folder / f"{stored}-{digest([model.sha256, stored, METHOD])}.onnx"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with workshop(WORKER) as worker:
            worker.call("run", model.path, stored, str(target))
    return replace(model_file(target), stored=stored)


def mapped_file(model: ModelFile, folder: Path) -> ModelFile:
    """The model with its weights in a file beside it, in every other respect the same.

    Raises:
        ModelError: the model cannot be read.
    """
    target = mapped_path(model, folder)
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with workshop(WORKER) as worker:
            worker.call("map", model.path, str(target))
    found, weights = model_file(target), str(target.with_suffix(DATA))
    return replace(model, path=found.path, sha256=found.sha256, weights=weights, external_bytes=0)


def mapped_path(model: ModelFile, folder: Path) -> Path:
    """Where the graph without its weights is or will be."""
    return folder / f"mapped-{digest([model.sha256, METHOD])}.onnx"


class WeightWorker:
    """Rewrites a file. Lives in a worker process, because models are large."""

    def map(self, path: str, target: str) -> None:
        """Write the weights and, last, the graph that names them."""
        save_apart(read_onnx(path), Path(target), Path(target).with_suffix(DATA).name)

    def run(self, path: str, stored: Stored, target: str) -> None:
        """Write the file whole or not at all."""
        rewrite = {"fp16": as_fp16, "int8_weights": as_int8}[stored]
        save_onnx(rewrite(read_onnx(path)), Path(target))


def as_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose weights are fp16 on disk; a Cast, folded when loaded, makes them fp32 again.

    Raises:
        ModelError: a weight is too large for fp16.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    casts = []
    for tensor in copy.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < LEAST_VALUES:
            continue
        values = numpy_helper.to_array(tensor)
        if np.abs(values).max(initial=0.0) > np.finfo(np.float16).max:
            raise ModelError(
                f"The weights '{tensor.name}' hold values beyond fp16's largest, 65504. Keep this "
                "model's weights in fp32."
            )
        name, half = tensor.name, f"{tensor.name}/fp16"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
        cast = helper.make_node("Cast", [half], [name], f"{name}/cast", to=TensorProto.FLOAT)
        casts.append(cast)
    if not casts:
        raise ModelError("The model has no fp32 weights that could be stored as fp16.")
    return _with_first(copy, casts)


def as_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose layers' weights are int8 with a step per channel; arithmetic stays float.

    Raises:
        ModelError: there are no layers with weights of their own.
    """
    copy = named(recent(model))
    tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
    decoding: dict[str, onnx.NodeProto] = {}
    for layer in layers(copy):
        tensor = tensors[layer.weight]
        if tensor.data_type != TensorProto.FLOAT or layer.weight in decoding:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < LEAST_VALUES:
            continue
        integers, scale = integer_weights(values, layer.channel_axis)
        name = layer.weight
        stored = (f"{name}/int8", f"{name}/scale")
        tensor.CopyFrom(numpy_helper.from_array(integers, stored[0]))
        copy.graph.initializer.append(numpy_helper.from_array(scale, stored[1]))
        decoding[name] = helper.make_node(
            "DequantizeLinear", list(stored), [name], f"{name}/dq", axis=layer.channel_axis
        )
    if not decoding:
        raise ModelError("The model has no layers whose weights could be stored as int8.")
    return _with_first(copy, list(decoding.values()))


def _with_first(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """The model with more nodes, before all others; in place."""
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    return model
