"""Lanes: streams of a device on which inferences run one after the other."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from saccade.runtimes.torch_device import Compute, Device, Recorded

# Each shape's graph keeps memory of its own.
KEPT_GRAPHS = 4


class Lane:
    """Runs a model eagerly.

    Args:
        device: where.
        compute: the model.
    """

    def __init__(self, device: Device, compute: Compute) -> None:
        self._device = device
        self._compute = compute
        self._stream = device.stream()

    def warm(self, image: Any) -> None:
        """Do now, for inputs like ``image``, what the first inference would have to."""

    def run(self, image: Any, ready: Any) -> tuple[list[Any], Any]:
        """Start an inference.

        Args:
            image: the input, on the device; to be left alone until the inference has ended.
            ready: the event after which ``image`` is there.

        Returns:
            The output tensors, and the event after which they are there.
        """
        self._device.after(self._stream, ready)
        with self._device.on(self._stream):
            outputs = self._outputs(image)
        return outputs, self._device.mark(self._stream)

    def _outputs(self, image: Any) -> list[Any]:
        return self._compute(image)


class GraphLane(Lane):
    """Plays a recording of the model, one for each input shape.

    It starts all of a model's kernels at once, where Python would start each by itself.
    """

    def __init__(self, device: Device, compute: Compute) -> None:
        super().__init__(device, compute)
        self._graphs: OrderedDict[tuple[int, ...], Recorded] = OrderedDict()

    def warm(self, image: Any) -> None:
        """Record it."""
        self._recorded(image)

    def _outputs(self, image: Any) -> list[Any]:
        graph = self._recorded(image)
        graph.image.copy_(image)
        graph.replay()
        # The next inference writes its outputs into the same memory.
        return [output.clone() for output in graph.outputs]

    def _recorded(self, image: Any) -> Recorded:
        shape = tuple(image.shape)
        if shape not in self._graphs:
            if len(self._graphs) == KEPT_GRAPHS:
                self._device.settle()  # it may be running
                self._graphs.popitem(last=False)
            self._graphs[shape] = self._device.record(self._compute, image, self._stream)
        self._graphs.move_to_end(shape)
        return self._graphs[shape]
