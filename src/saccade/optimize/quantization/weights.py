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
from saccade.optimize.quantization.layers import Layer, layers, named
from saccade.optimize.quantization.prepared import recent
from saccade.optimize.quantization.rounding import integer_weights
from saccade.optimize.workshop import workshop
from saccade.pipeline.config import ModelFile, Stored, digest

# Smaller tensors are not worth a node of their own.
LEAST_VALUES = 256
# Products that a layer adds up for a value, below which its weights are not rounded to int8, and
# the part of all weights that such layers may be.
FEW, SMALL_PART = 64, 0.1
METHOD = "weights 2"
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
        if not _fits_fp16(tensor):
            raise ModelError(
                f"The weights '{tensor.name}' hold values beyond fp16's largest, 65504. Keep this "
                "model's weights in fp32."
            )
        casts.append(_halved(tensor))
    if not casts:
        raise ModelError("The model has no fp32 weights that could be stored as fp16.")
    return _with_first(copy, casts)


def _fits_fp16(tensor: TensorProto) -> bool:
    largest = np.abs(numpy_helper.to_array(tensor)).max(initial=0.0)
    return bool(largest <= np.finfo(np.float16).max)


def _halved(tensor: TensorProto) -> onnx.NodeProto:
    """Store a tensor as fp16, in place; the Cast that makes fp32 of it again under its name."""
    name, half = tensor.name, f"{tensor.name}/fp16"
    values = numpy_helper.to_array(tensor).astype(np.float16)
    tensor.CopyFrom(numpy_helper.from_array(values, half))
    return helper.make_node("Cast", [half], [name], f"{name}/cast", to=TensorProto.FLOAT)


def as_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose layers' weights are int8 with a step per channel; arithmetic stays float.

    Layers that add up few products are stored as fp16 where they are a small part of the file: of
    nine weights the errors do not average out. In MobileNetV2, of 3.5 million weights 65 thousand
    are depthwise; with them in fp16 logits move half as far, for 2% of the size.

    Raises:
        ModelError: there are no layers with weights of their own.
    """
    copy = named(recent(model))
    tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
    found = {
        layer.weight: layer
        for layer in layers(copy)
        if tensors[layer.weight].data_type == TensorProto.FLOAT
        and np.prod(tensors[layer.weight].dims) >= LEAST_VALUES
    }
    if not found:
        raise ModelError("The model has no layers whose weights could be stored as int8.")
    halved = _of_few_products([(layer, tensors[name]) for name, layer in found.items()])
    decoding = []
    for name, layer in found.items():
        if name in halved:
            decoding.append(_halved(tensors[name]))
            continue
        integers, scale = integer_weights(numpy_helper.to_array(tensors[name]), layer.channel_axis)
        stored = (f"{name}/int8", f"{name}/scale")
        tensors[name].CopyFrom(numpy_helper.from_array(integers, stored[0]))
        copy.graph.initializer.append(numpy_helper.from_array(scale, stored[1]))
        decoding.append(
            helper.make_node(
                "DequantizeLinear", list(stored), [name], f"{name}/dq", axis=layer.channel_axis
            )
        )
    return _with_first(copy, decoding)


def _of_few_products(weights: list[tuple[Layer, TensorProto]]) -> set[str]:
    """Names of the weights that stay finer than int8; none where they are no small part of all."""
    sizes = {layer.weight: int(np.prod(tensor.dims)) for layer, tensor in weights}
    few = {
        layer.weight
        for layer, tensor in weights
        if sizes[layer.weight] // tensor.dims[layer.channel_axis] < FEW and _fits_fp16(tensor)
    }
    return few if sum(sizes[name] for name in few) <= SMALL_PART * sum(sizes.values()) else set()


def _with_first(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """The model with more nodes, before all others; in place."""
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    return model
