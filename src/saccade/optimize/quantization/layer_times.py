"""Which layers int8 makes faster, by measurement: two files run in turns, operator by operator.

Rounding a layer that is no faster for it costs accuracy and brings nothing. Which layers those are
depends on the CPU and the runtime: without VNNI, a depthwise convolution gains nothing in OpenVINO,
and is computed in float there wherever its inputs have a range for each channel.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from saccade import plugins
from saccade.optimize.quantization.contract import Samples
from saccade.optimize.quantization.layers import layers
from saccade.pipeline.config import ModelFile, PipelineConfig
from saccade.profile.flops import Work
from saccade.profile.operators import matched
from saccade.runtimes.contract import OperatorTime, Session, SessionRequest

# Each file is looked at so many times, so many runs each; the least mean of a layer counts, because
# what else runs on the machine only ever adds to it. After so many seconds there are no more.
LOOKS, RUNS, BUDGET_S = 4, 8, 10.0


@dataclass(frozen=True)
class LayerTime:
    """What int8 brings one layer.

    Attributes:
        node: the layer.
        float_ms: milliseconds per inference in the float file.
        int8_ms: in the file in which it is rounded.
        rounded: the runtime computed it in int8 there.
    """

    node: str
    float_ms: float
    int8_ms: float
    rounded: bool

    @property
    def saved_ms(self) -> float:
        """What int8 saves per inference; negative where it costs."""
        return self.float_ms - self.int8_ms

    @property
    def pays(self) -> bool:
        """Whether int8 makes the layer faster."""
        return self.rounded and self.saved_ms > 0


def measure(
    model: onnx.ModelProto, config: PipelineConfig, whole: ModelFile, samples: Samples
) -> list[LayerTime]:
    """Times of the layers that are found in both files, in graph order.

    Args:
        model: the float graph, every node named.
        config: runs the float file; threads and runtime are its own.
        whole: the same model with every layer rounded that can be.
        samples: inputs of one shape ``(1, 3, H, W)`` float32; the first is used.

    Raises:
        RuntimeFailure: the runtime refused a file or an input.
    """
    tensor = np.ascontiguousarray(samples[0])
    exact: dict[str, OperatorTime] = {}
    rough: dict[str, OperatorTime] = {}
    began = time.monotonic()
    for look in range(LOOKS):
        for file, least in ((config.model, exact), (whole, rough)):
            _note_least(least, layer_operators(model, _operators(config, file, tensor)))
        a_look_s = (time.monotonic() - began) / (look + 1)
        if a_look_s * (look + 2) > BUDGET_S:
            break
    return [
        LayerTime(node, op.wall_ms, rough[node].wall_ms, rough[node].precision == "int8")
        for node, op in exact.items()
        if node in rough
    ]


def _operators(config: PipelineConfig, file: ModelFile, tensor: Any) -> list[OperatorTime]:
    """Operator times of a few inferences of a file, one at a time."""
    # Layers that stay float run in fp32 beside int8.
    options = replace(config.options, precision="fp32", in_flight=1, streams=1)
    shape = (tensor.shape[2], tensor.shape[3])
    request = SessionRequest(file, shape, options, config.description.input.name, profile=True)
    session: Session = plugins.load("runtimes", config.runtime).open(request)
    try:
        for _ in range(RUNS):
            session.infer(tensor)
        return session.operators()
    finally:
        session.close()


def _note_least(least: dict[str, OperatorTime], found: Mapping[str, OperatorTime]) -> None:
    for node, op in found.items():
        if node not in least or op.wall_ms < least[node].wall_ms:
            least[node] = op


def layer_operators(
    model: onnx.ModelProto, operators: Sequence[OperatorTime]
) -> dict[str, OperatorTime]:
    """For each layer the operator that carries it out, in graph order; without those not found.

    Args:
        model: with the names that the runtime was given.
        operators: as the runtime names and fuses them.
    """
    work = {node.name: _work(node) for node in model.graph.node}
    names = {id(item): name for name, item in work.items()}
    found = {names[id(item)]: op for op, item in matched(operators, work) if item is not None}
    return {layer.node: found[layer.node] for layer in layers(model) if layer.node in found}


def _work(node: onnx.NodeProto) -> Work:
    """What matching needs: who reads and makes what."""
    return Work(node.op_type, 0.0, 0.0, tuple(node.input), tuple(node.output))
