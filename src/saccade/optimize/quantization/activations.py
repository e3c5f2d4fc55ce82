"""Ranges of a float model's activations on real inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from saccade.errors import RuntimeFailure, first_line
from saccade.models.onnx_save import loadable
from saccade.optimize.quantization.contract import Samples
from saccade.optimize.quantization.layers import layers


class Ranges:
    """Smallest and largest value of every channel, for each sample.

    Attributes:
        low: tensor → ``(samples, C)`` float32; one column where a tensor has no channels.
        high: likewise.
    """

    def __init__(self) -> None:
        self.low: dict[str, NDArray[np.float32]] = {}
        self.high: dict[str, NDArray[np.float32]] = {}

    @classmethod
    def gathered(cls, each: Iterable[Mapping[str, NDArray[np.float32]]]) -> Ranges:
        """Ranges from tensors' values, one mapping per sample, ``(1, C, H, W)`` each.

        A tensor of any other rank counts as one channel.
        """
        ranges = cls()
        ends = [{name: _channel_ends(value) for name, value in one.items()} for one in each]
        for name in ends[0] if ends else ():
            ranges.low[name] = np.stack([one[name][0] for one in ends])
            ranges.high[name] = np.stack([one[name][1] for one in ends])
        return ranges

    def __contains__(self, tensor: str) -> bool:
        return tensor in self.low

    def of(self, tensor: str, per_channel: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        """Ends over all samples: ``()`` each, or ``(C,)`` per channel."""
        low, high = self.low[tensor], self.high[tensor]
        if per_channel:
            return low.min(axis=0), high.max(axis=0)
        return low.min(), high.max()

    def mean(self, tensor: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """The ends of one sample on average, ``()`` each."""
        low, high = self.low[tensor].min(axis=1), self.high[tensor].max(axis=1)
        return low.mean(), high.mean()


def observe(model: onnx.ModelProto, samples: Samples) -> Ranges:
    """Run the float model and note the ranges of what its layers take and give.

    Raises:
        RuntimeFailure: ONNX Runtime refuses the model or a sample.
    """
    names = [name for layer in layers(model) for name in (layer.taken, layer.given)]
    return Ranges.gathered(values_of(model, names, samples))


def values_of(
    model: onnx.ModelProto, names: Iterable[str], samples: Samples
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """For each sample, the input and the values of tensors inside the model.

    Args:
        model: float.
        names: of the tensors; inputs and outputs of the model among them are left out.
        samples: inputs.

    Raises:
        RuntimeFailure: ONNX Runtime refuses the model or a sample.
    """
    ends = {end.name for end in (*model.graph.input, *model.graph.output)}
    inside = [name for name in dict.fromkeys(names) if name not in ends]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    kept = len(watched.graph.output)
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inside
    )
    session = float_session(watched)
    inputs = session.get_inputs()[0].name
    for sample in samples:
        try:
            values = session.run(None, {inputs: sample})[kept:]
        except Exception as error:  # onnxruntime's exceptions share no base
            raise RuntimeFailure(f"ONNX Runtime refused a sample: {first_line(error)}") from error
        yield {**dict(zip(inside, values, strict=True)), inputs: sample}


def float_session(model: onnx.ModelProto) -> Any:
    """A session of the model, as fast to open as it can be.

    Raises:
        RuntimeFailure: ONNX Runtime refuses the model.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        with loadable(model) as source:
            return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base
        raise RuntimeFailure(f"ONNX Runtime refused the model: {first_line(error)}") from error


def _channel_ends(
    value: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Ends per channel of ``(1, C, H, W)``; of anything else, of all of it."""
    if value.ndim != 4:
        return np.array([value.min()], np.float32), np.array([value.max()], np.float32)
    return value.min(axis=(0, 2, 3)), value.max(axis=(0, 2, 3))
