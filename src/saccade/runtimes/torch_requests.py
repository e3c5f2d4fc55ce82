"""One request of a PyTorch session: its buffers, its copies, and when each may begin.

Copies run on a stream of the request's own and computation on a lane's, with events between
them, so that the copies of one request overlap the computation of another.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import RuntimeFailure, first_line
from saccade.models.torch_nms import Suppression, suppressed
from saccade.runtimes.torch_device import Device
from saccade.runtimes.torch_lanes import Lane

Outputs = list[NDArray[np.float32]]


class Request:
    """Buffers for one inference at a time, used again by the next.

    Started by one thread and finished by another.

    Args:
        device: where the model runs.
        suppression: NMS behind the model. How many boxes it keeps is known only when it has run,
            so it waits for the GPU; it is done in `finish`, where a thread waits anyway.
    """

    def __init__(self, device: Device, suppression: Suppression | None) -> None:
        self._device = device
        self._suppression = suppression
        self._stream = device.stream()
        self._inputs: tuple[Any, Any] | None = None
        self._buffers: list[Any] = []
        self._lock = threading.Lock()
        self._pending: tuple[list[Any], Any] | None = None
        self._downloaded: Any = None
        self._answer: Outputs | RuntimeFailure = []

    def start(self, tensor: NDArray[Any], lane: Lane) -> None:
        """Copy the input and start the inference; waits for none of it.

        Raises:
            RuntimeFailure: the model failed.
        """
        import torch

        try:
            with torch.inference_mode():
                outputs, computed = lane.run(*self._uploaded(tensor))
                if self._suppression is None:
                    self._download(outputs, computed)
        except Exception as error:
            raise _failure(error) from error
        # The outputs are held until they were copied: their memory would be given to others.
        self._pending = outputs, computed

    def finish(self) -> Outputs:
        """Wait for the outputs, which are valid until the next `start`.

        Raises:
            RuntimeFailure: the model failed.
        """
        with self._lock:
            if self._pending is not None:
                self._answer = self._waited(*self._pending)
                self._pending = None
        if isinstance(self._answer, RuntimeFailure):
            raise self._answer
        return self._answer

    def settle(self) -> None:
        """Wait for what is under way; a failure is kept for `finish`."""
        try:
            self.finish()
        except RuntimeFailure:
            return

    def _waited(self, outputs: list[Any], computed: Any) -> Outputs | RuntimeFailure:
        import torch

        try:
            with torch.inference_mode():
                if self._suppression is not None:
                    self._download(self._kept(outputs, computed), computed)
                self._device.wait(self._downloaded)
        except Exception as error:
            return _failure(error)
        return [buffer.numpy() for buffer in self._buffers]

    def _kept(self, outputs: list[Any], computed: Any) -> list[Any]:
        assert self._suppression is not None
        self._device.after(self._stream, computed)
        with self._device.on(self._stream):
            return [suppressed(outputs, self._suppression)]

    def _uploaded(self, tensor: NDArray[Any]) -> tuple[Any, Any]:
        """The input on the device, and the event after which it is there."""
        import torch

        source = torch.from_numpy(tensor)
        if self._inputs is None or not _alike(self._inputs[0], source):
            shape, dtype = tuple(source.shape), source.dtype
            host = self._device.host_buffer(shape, dtype)
            with self._device.on(self._stream):
                self._inputs = host, torch.empty(shape, dtype=dtype, device=self._device.name)
        host, image = self._inputs
        host.copy_(source)
        with self._device.on(self._stream):
            image.copy_(host, non_blocking=True)
        return image, self._device.mark(self._stream)

    def _download(self, outputs: list[Any], computed: Any) -> None:
        self._device.after(self._stream, computed)
        kept = self._buffers if len(self._buffers) == len(outputs) else [None] * len(outputs)
        self._buffers = [
            old
            if old is not None and _alike(old, new)
            else self._device.host_buffer(tuple(new.shape), new.dtype)
            for old, new in zip(kept, outputs, strict=True)
        ]
        with self._device.on(self._stream):
            for buffer, output in zip(self._buffers, outputs, strict=True):
                buffer.copy_(output, non_blocking=True)
        self._downloaded = self._device.mark(self._stream)


def _alike(first: Any, second: Any) -> bool:
    return bool(first.shape == second.shape and first.dtype == second.dtype)


def _failure(error: Exception) -> RuntimeFailure:
    if isinstance(error, RuntimeFailure):
        return error
    failure = RuntimeFailure(f"PyTorch failed to run: {first_line(error)}")
    failure.__cause__ = error
    return failure
