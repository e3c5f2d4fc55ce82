"""Which layers int8 disturbs, by measurement: one layer is rounded at a time, all others float.

The error of the model's outputs against the float ones is its sensitivity. Errors of single layers
add up well (Nagel et al., "A White Paper on Neural Network Quantization", 2021, section 4.3), which
is what lets a few measured numbers rank layers and say how many are worth keeping float.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from saccade.optimize.quantization.activations import Ranges, float_session
from saccade.optimize.quantization.contract import Samples, Scheme
from saccade.optimize.quantization.layers import Layer, layers, weights_of
from saccade.optimize.quantization.recipe import Recipe
from saccade.optimize.quantization.rounding import rounded_weights, rounding_nodes

_Item = TypeVar("_Item")

PLAIN = Recipe()

# Samples that are looked at, and how long that may take in all.
IMAGES, BUDGET_S = 8, 60.0
# What it may take where it is only shown, nothing depends on it.
SHOWN_S = 10.0


@dataclass(frozen=True)
class Sensitivity:
    """One layer's share of the damage.

    Attributes:
        node: the layer.
        kind: its operator.
        error: noise that int8 in this layer alone puts on the outputs, relative to their signal.
    """

    node: str
    kind: str
    error: float


def measure(
    model: onnx.ModelProto,
    samples: Samples,
    ranges: Ranges,
    scheme: Scheme,
    recipe: Recipe = PLAIN,
    budget_s: float = BUDGET_S,
    partly: bool = True,
) -> list[Sensitivity]:
    """Sensitivity of every layer, the largest first.

    Args:
        model: float, every node named.
        samples: calibration inputs.
        ranges: of the activations, from the same samples.
        scheme: where the quantizer rounds.
        recipe: how many steps weights have.
        budget_s: seconds that it may take.
        partly: where that is too little for all layers, measure those that it allows; else none,
            which is told from the first few.
    """
    chosen = list(samples)[:IMAGES]
    exact = _outputs(model, chosen)

    def look(layer: Layer) -> Sensitivity:
        rough = _outputs(_rounded(model, layer, ranges, scheme, recipe), chosen)
        return Sensitivity(layer.node, layer.kind, relative_error(exact, rough))

    return by_sensitivity(layers(model), look, budget_s, partly)


def by_sensitivity(
    every: Sequence[_Item], look: Callable[[_Item], Sensitivity], budget_s: float, partly: bool
) -> list[Sensitivity]:
    """What looking at each gives, the most sensitive first.

    Args:
        every: the layers.
        look: measures one.
        budget_s: seconds that all may take.
        partly: where that is too little for all, look at those that it allows; else at none,
            which is told from the first few.
    """
    began = time.monotonic()
    found: list[Sensitivity] = []
    for layer in every:
        spent = time.monotonic() - began
        if spent > budget_s and partly:
            break
        if not partly and spent * len(every) > budget_s * max(1, len(found)):
            return []
        found.append(look(layer))
    return sorted(found, key=lambda item: -item.error)


def relative_error(
    exact: Sequence[Sequence[NDArray[Any]]], rough: Sequence[Sequence[NDArray[Any]]]
) -> float:
    """Noise over signal, averaged over channels and outputs.

    Channels are told apart because a detector's boxes are a thousand times its scores, and would
    otherwise be all that counts. Channels that are always zero say nothing and are left out: any
    noise would be infinitely more.

    Args:
        exact: per sample, every output of the float model.
        rough: the same of the rounded one.
    """
    errors: list[float] = []
    for index in range(len(exact[0])):
        signal, noise = 0.0, 0.0
        for whole, off in zip(exact, rough, strict=True):
            a, b = (np.asarray(outputs[index], np.float64) for outputs in (whole, off))
            others = _pooled_axes(a.shape)
            signal = signal + np.square(a).sum(axis=others)
            noise = noise + np.square(a - b).sum(axis=others)
        live = np.asarray(signal) > max(float(np.max(signal)) * 1e-12, 1e-30)
        shares = np.asarray(noise)[live] / np.asarray(signal)[live]
        errors.append(float(shares.mean()) if live.any() else 0.0)
    return float(np.mean(errors))


def _pooled_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Axes of ``(1, ...)`` to sum over; of the rest, the shortest counts channels."""
    inner = range(1, len(shape))
    if len(inner) < 2:  # one vector per image, such as the classes' scores
        return tuple(range(len(shape)))
    channels = min(inner, key=lambda axis: shape[axis])
    return tuple(axis for axis in range(len(shape)) if axis != channels)


def _rounded(
    model: onnx.ModelProto, layer: Layer, ranges: Ranges, scheme: Scheme, recipe: Recipe
) -> onnx.ModelProto:
    """A copy in which one layer's input, weights and, by the scheme, output are rounded."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    per_channel = layer.depthwise and scheme.depthwise_per_channel
    exact = weights_of(model, layer.weight)
    steps = scheme.weight_steps(recipe, layer.depthwise)
    weights = rounded_weights(exact, layer.channel_axis, steps)
    weight_name = f"{layer.weight}/rounded"
    copy.graph.initializer.append(numpy_helper.from_array(weights, weight_name))
    node = next(n for n in copy.graph.node if n.name == layer.node)
    node.input[1] = weight_name
    if layer.taken in ranges:
        low, high = _ends(ranges, layer.taken, per_channel, scheme)
        node.input[0] = rounding_nodes(copy, layer.taken, low, high)
    if scheme.rounds_outputs and layer.given in ranges and layer.given not in _outputs_of(copy):
        low, high = _ends(ranges, layer.given, False, scheme)
        _redirect(copy, layer.given, rounding_nodes(copy, layer.given, low, high))
    _sort(copy)
    return copy


def _ends(
    ranges: Ranges, tensor: str, per_channel: bool, scheme: Scheme
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The range that the quantizer's first setting gives a tensor."""
    if scheme.mean_ranges and not per_channel:
        return ranges.mean(tensor)
    return ranges.of(tensor, per_channel)


def _outputs_of(model: onnx.ModelProto) -> set[str]:
    return {output.name for output in model.graph.output}


def _redirect(model: onnx.ModelProto, old: str, new: str) -> None:
    """Let everybody read ``new`` instead of ``old``, but for who makes it."""
    for node in model.graph.node:
        if node.name.startswith(f"{old}/rounded"):
            continue
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new


def _sort(model: onnx.ModelProto) -> None:
    """Put the nodes into an order in which everything is made before it is used."""
    pending = list(model.graph.node)
    known = {tensor.name for tensor in model.graph.initializer}
    known |= {value.name for value in model.graph.input} | {""}
    ordered: list[onnx.NodeProto] = []
    while pending:
        ready = [node for node in pending if all(name in known for name in node.input)]
        if not ready:  # a subgraph reads from outside; its order was right before
            ready = pending
        ordered += ready
        known |= {name for node in ready for name in node.output}
        done = {id(node) for node in ready}
        pending = [node for node in pending if id(node) not in done]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def _outputs(model: onnx.ModelProto, samples: Samples) -> list[list[NDArray[Any]]]:
    return list(_run(model, samples))


def _run(model: onnx.ModelProto, samples: Samples) -> Iterator[list[NDArray[Any]]]:
    session = float_session(model)
    name = session.get_inputs()[0].name
    for sample in samples:
        yield session.run(None, {name: sample})
