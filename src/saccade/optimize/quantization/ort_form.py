"""A graph that rounds (QDQ), in the form whose int8 kernels ONNX Runtime finds. Values stay equal.

NNCF writes what OpenVINO likes: signed activations beside unsigned ones, activations that cut off
before values are rounded, biases in float. ONNX Runtime makes an int8 convolution only of one
whose input and output are both unsigned, with nothing between it and its rounding, and with a
32-bit bias. Each step here says the same in that form; none changes what is computed by more than
the rounding of a bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from saccade.errors import ModelError, RuntimeFailure
from saccade.models.onnx_run import strictly_simplified
from saccade.optimize.quantization.layers import KINDS, attribute, output_channels

ROUND, BACK = "QuantizeLinear", "DequantizeLinear"
# From signed to unsigned, with the same size of steps.
SHIFT = 128
# Share of a step by which a range may lie outside of what an activation lets through.
SLACK = 0.5


def for_onnxruntime(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in ONNX Runtime's form.

    Args:
        model: with ``QuantizeLinear`` and ``DequantizeLinear`` nodes, ranges per tensor.

    Raises:
        RuntimeFailure: ONNX Runtime refuses the model.
    """
    try:
        graph = _Graph(strictly_simplified(model))
    except ModelError as error:
        raise RuntimeFailure(f"The quantized model does not load: {error}") from error
    graph.fold_norms()
    graph.drop_activations()
    graph.make_unsigned()
    graph.round_biases()
    return graph.finished()


class _Graph:
    """The model with what is looked up in it again and again."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.made_by = {name: node for node in model.graph.node for name in node.output}
        self.outputs = {output.name for output in model.graph.output}

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        return [node for node in self.model.graph.node if tensor in node.input]

    def value(self, name: str) -> NDArray[Any] | None:
        found = self.constants.get(name)
        return numpy_helper.to_array(found) if found is not None else None

    def set(self, name: str, value: NDArray[Any]) -> str:
        tensor = numpy_helper.from_array(np.array(value, order="C"), name)
        if name in self.constants:
            self.constants[name].CopyFrom(tensor)
        else:
            self.model.graph.initializer.append(tensor)
            self.constants[name] = self.model.graph.initializer[-1]
        return name

    def drop(self, node: onnx.NodeProto, instead: str) -> None:
        """Take a node out; who read its output reads another tensor."""
        for reader in self.readers(node.output[0]):
            for index, name in enumerate(reader.input):
                if name == node.output[0]:
                    reader.input[index] = instead
        self.model.graph.node.remove(node)

    # Steps

    def fold_norms(self) -> None:
        """Batch norms into the steps of the weights before them, which rounding does not touch.

        A step is for one index of one axis of the weights, so a norm stays where that cannot hold
        its gains: behind transposed convolutions of several groups of several channels.
        """
        for norm in [n for n in self.model.graph.node if n.op_type == "BatchNormalization"]:
            conv, gain = self.made_by.get(norm.input[0]), self._gain(norm)
            if conv is None or gain is None or not self._feeds_only(conv, norm):
                continue
            bias = self._bias(conv, len(gain[0]))
            if bias is None or not self._scaled(conv, gain[0], norm.name):
                continue
            made = (bias * gain[0] + gain[1]).astype(np.float32)
            conv.input[2:] = [self.set(f"{norm.name}/bias", made)]
            self.model.graph.node.remove(norm)
            conv.output[0] = norm.output[0]  # which may be one of the graph's
            self.made_by[conv.output[0]] = conv

    def _feeds_only(self, conv: onnx.NodeProto, norm: onnx.NodeProto) -> bool:
        """Whether nobody but the norm reads a layer's output."""
        return len(self.readers(conv.output[0])) == 1 and conv.output[0] not in self.outputs

    def _scaled(self, conv: onnx.NodeProto, gain: NDArray[np.float64], name: str) -> bool:
        """Multiply a layer's rounded weights by ``gain``, by output channel, where steps allow it.

        Args:
            conv: the layer; MatMul has no third input for the norm's bias.
            gain: ``(C_out,)``.
            name: what the new constants' names begin with.
        """
        found = self._rounded_weight(conv) if conv.op_type != "MatMul" else None
        if found is None or len(self.readers(conv.input[1])) > 1:
            return False
        values, steps = found
        back, place = self.made_by[conv.input[1]], output_channels(conv, values.shape)
        if place is None or not self._symmetric(back) or not _along(back, steps, place[0]):
            return False
        axis, channel = place
        shape = [-1 if at == axis else 1 for at in range(values.ndim)]
        # A step is positive, so a negative gain turns the weights over instead.
        turned = values.astype(np.int16) * np.where(gain < 0, -1, 1)[channel].reshape(shape)
        if turned.max() > np.iinfo(np.int8).max:  # -128 has no counterpart
            return False
        made = np.broadcast_to(steps.reshape(-1), channel.shape) * np.abs(gain)[channel]
        back.input[0] = self.set(f"{name}/weight", turned.astype(np.int8))
        back.input[1] = self.set(f"{name}/step", made.astype(np.float32))
        back.input[2:] = [self.set(f"{name}/zero", np.zeros(len(channel), np.int8))]
        del back.attribute[:]
        back.attribute.append(helper.make_attribute("axis", axis))
        return True

    def drop_activations(self) -> None:
        """ReLU and its kin before a rounding that cuts off at the same ends."""
        for node in [n for n in self.model.graph.node if n.op_type in ("Relu", "Clip")]:
            low, high = self._ends(node)
            readers = self.readers(node.output[0])
            rounded = all(self._within(reader, low, high) for reader in readers)
            if readers and rounded and node.output[0] not in self.outputs:
                self.drop(node, node.input[0])

    def make_unsigned(self) -> None:
        """Activations with unsigned values: zero points move by as much as the values do."""
        moved: dict[str, str] = {}
        rounding = {n.output[0] for n in self._activation_rounds()}
        for node in self.model.graph.node:
            mine = node.op_type == ROUND and node.output[0] in rounding
            if not (mine or (node.op_type == BACK and node.input[0] in rounding)):
                continue
            zero = self.value(node.input[2]) if len(node.input) > 2 else None
            if zero is None or zero.dtype != np.int8:
                continue
            name = node.input[2]
            if name not in moved:
                shifted = (zero.astype(np.int16) + SHIFT).astype(np.uint8)
                moved[name] = self.set(f"{name}/unsigned", shifted)
            node.input[2] = moved[name]

    def round_biases(self) -> None:
        """Biases as 32-bit integers, in steps of input times weights, as the kernels add them."""
        for node in list(self.model.graph.node):
            weight = self._rounded_weight(node)
            taken = self.made_by.get(node.input[0]) if node.input else None
            if weight is None or taken is None or taken.op_type != BACK or len(node.input) < 3:
                continue
            bias, step = self.value(node.input[2]), self.value(taken.input[1])
            if bias is None or bias.dtype != np.float32 or step is None or step.size != 1:
                continue
            by_channel = self._steps_by_channel(node, *weight)
            if by_channel is None or by_channel.shape != bias.shape:
                continue
            steps = (by_channel * step.reshape(())).astype(np.float32)
            whole = np.rint(bias.astype(np.float64) / steps)
            if np.abs(whole).max(initial=0) >= np.iinfo(np.int32).max:
                continue  # steps next to nothing: a float bias is exact, if slower
            name = node.output[0]
            inputs = [
                self.set(f"{name}/bias", whole.astype(np.int32)),
                self.set(f"{name}/bias_step", steps),
            ]
            back = helper.make_node(BACK, inputs, [f"{name}/bias_back"], f"{name}/bias", axis=0)
            at = list(self.model.graph.node).index(node)
            self.model.graph.node.insert(at, back)
            node = self.model.graph.node[at + 1]
            node.input[2] = back.output[0]

    def finished(self) -> onnx.ModelProto:
        """The model, without what is no longer read or no longer true."""
        graph = self.model.graph
        read = {name for node in graph.node for name in node.input} | self.outputs
        kept = [tensor for tensor in graph.initializer if tensor.name in read]
        copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
        del graph.initializer[:]
        graph.initializer.extend(copies)
        del graph.value_info[:]  # types of tensors that are unsigned now
        used = {node.domain for node in graph.node} | {""}
        domains = [entry for entry in self.model.opset_import if entry.domain in used]
        versions = [(entry.domain, entry.version) for entry in domains]
        del self.model.opset_import[:]
        self.model.opset_import.extend(helper.make_opsetid(*pair) for pair in versions)
        onnx.checker.check_model(self.model)
        return self.model

    # Reading

    def _activation_rounds(self) -> Iterator[onnx.NodeProto]:
        for node in self.model.graph.node:
            if node.op_type == ROUND and node.input[0] not in self.constants:
                yield node

    def _rounded_weight(self, node: onnx.NodeProto) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """A layer's int8 weights and their steps, None where it has none."""
        if node.op_type not in KINDS or len(node.input) < 2:
            return None
        back = self.made_by.get(node.input[1])
        if back is None or back.op_type != BACK:
            return None
        values, steps = self.value(back.input[0]), self.value(back.input[1])
        if values is None or steps is None or values.dtype != np.int8:
            return None
        return values, steps

    def _steps_by_channel(
        self, node: onnx.NodeProto, values: NDArray[Any], steps: NDArray[Any]
    ) -> NDArray[Any] | None:
        """``(C_out,)`` steps of a layer's weights; None where they are not by output channel."""
        place = output_channels(node, values.shape)
        if place is None or not _along(self.made_by[node.input[1]], steps, place[0]):
            return None
        # Of several input channels that make one output channel, the steps may differ.
        distinct = len(set(place[1])) == len(place[1])
        return np.broadcast_to(steps.reshape(-1), place[1].shape) if distinct else None

    def _symmetric(self, back: onnx.NodeProto) -> bool:
        """Whether integers stand for values around zero."""
        if len(back.input) < 3:
            return True
        zero = self.value(back.input[2])
        return zero is not None and not zero.any()

    def _bias(self, node: onnx.NodeProto, channels: int) -> NDArray[Any] | None:
        """``(channels,)`` of a layer; None where it is not a constant, or is multiplied."""
        if any(a.name == "beta" and a.f != 1 for a in node.attribute):  # of a Gemm
            return None
        if len(node.input) < 3 or not node.input[2]:
            return np.zeros(channels, np.float32)
        return self.value(node.input[2])

    def _gain(self, norm: onnx.NodeProto) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """What a batch norm multiplies by and adds; None where that is not constant."""
        values = [self.value(name) for name in norm.input[1:5]]
        if any(value is None for value in values):
            return None
        gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in values)
        epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
        gain = gamma / np.sqrt(variance + epsilon)
        return gain, beta - mean * gain

    def _ends(self, node: onnx.NodeProto) -> tuple[float, float]:
        """What an activation lets through."""
        if node.op_type == "Relu":
            return 0.0, np.inf
        ends = [self.value(name) if name else None for name in (*node.input[1:3], "", "")[:2]]
        low, high = ends
        return (
            -np.inf if low is None else float(low),
            np.inf if high is None else float(high),
        )

    def _within(self, reader: onnx.NodeProto, low: float, high: float) -> bool:
        """Whether a rounding's whole range is let through, so that it cuts off by itself."""
        if reader.op_type != ROUND or len(reader.input) < 3:
            return False
        step, zero = self.value(reader.input[1]), self.value(reader.input[2])
        if step is None or zero is None or step.size != 1:
            return False
        kind = np.iinfo(zero.dtype)
        size, middle = float(step.reshape(())), int(zero.reshape(()))
        least, most = ((end - middle) * size for end in (kind.min, kind.max))
        return bool(least >= low - SLACK * size and most <= high + SLACK * size)


def _along(back: onnx.NodeProto, steps: NDArray[Any], axis: int) -> bool:
    """Whether a rounding's steps are one for all, or one for each index of an axis."""
    return steps.size == 1 or (steps.ndim == 1 and attribute(back, "axis", 1) == axis)
