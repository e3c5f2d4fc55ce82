"""What PyTorch sessions need of a device: streams, events, host memory, recorded graphs.

`CudaDevice` is the one place that calls ``torch.cuda``. Not verified on hardware: no GPU was at
hand in this project. `HostDevice` does everything at once, on the CPU; it has no streams.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from saccade.errors import RuntimeFailure

# From the tensor that a session takes to output tensors, all of them on the device.
Compute = Callable[[Any], list[Any]]

# Libraries choose kernels and take workspaces in the first runs, which must not be recorded.
WARMUP_RUNS = 3


@dataclass(frozen=True, eq=False)
class Recorded:
    """An inference that was recorded once and is played again.

    Attributes:
        image: where the input has to be.
        outputs: where the outputs are afterwards, until the next `replay`.
        replay: starts it on the stream that is current.
    """

    image: Any
    outputs: list[Any]
    replay: Callable[[], None]


class Device(ABC):
    """Where a session computes. Streams and events are the device's own, opaque to callers.

    Attributes:
        name: as PyTorch calls it.
    """

    name: str

    @abstractmethod
    def stream(self) -> Any:
        """A new queue of work; work on different ones may run at the same time."""

    @abstractmethod
    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """What is started inside runs on ``stream``."""

    @abstractmethod
    def mark(self, stream: Any) -> Any:
        """An event that happens when all work that ``stream`` has got so far is done."""

    @abstractmethod
    def after(self, stream: Any, event: Any) -> None:
        """Let ``stream`` wait for ``event`` before what it gets from now on."""

    @abstractmethod
    def wait(self, event: Any) -> None:
        """Let the calling thread wait for ``event``."""

    @abstractmethod
    def settle(self) -> None:
        """Let the calling thread wait for everything."""

    @abstractmethod
    def host_buffer(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A tensor in host memory that the device copies from and to by itself."""

    @abstractmethod
    def computing(self) -> AbstractContextManager[Any]:
        """The context that models run in."""

    @abstractmethod
    def record(self, compute: Compute, image: Any, stream: Any) -> Recorded:
        """Record ``compute`` for the shape of ``image``, as work of ``stream``.

        Raises:
            RuntimeFailure: the device cannot record.
            RuntimeError: the model does something that cannot be recorded.
        """


class HostDevice(Device):
    """The CPU: whatever is started has ended when the call returns."""

    name = "cpu"

    def stream(self) -> Any:
        """None."""
        return None

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """Nothing to switch."""
        return contextlib.nullcontext()

    def mark(self, stream: Any) -> Any:
        """None: it has happened."""
        return None

    def after(self, stream: Any, event: Any) -> None:
        """Nothing to wait for."""

    def wait(self, event: Any) -> None:
        """Nothing to wait for."""

    def settle(self) -> None:
        """Nothing to wait for."""

    def host_buffer(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Ordinary memory."""
        import torch

        return torch.empty(shape, dtype=dtype)

    def computing(self) -> AbstractContextManager[Any]:
        """As the process is set up."""
        return contextlib.nullcontext()

    def record(self, compute: Compute, image: Any, stream: Any) -> Recorded:
        """There are no CUDA graphs on the CPU."""
        raise RuntimeFailure("CUDA graphs need an NVIDIA GPU")


class CudaDevice(Device):
    """The current NVIDIA GPU.

    Args:
        fixed: inputs have one shape, so that cuDNN may try all its algorithms for it.
        spinning: threads that wait keep a core busy, which wakes them sooner.
        name: as PyTorch calls it.
    """

    def __init__(self, fixed: bool, spinning: bool, name: str = "cuda") -> None:
        self.name = name
        self._fixed = fixed
        self._spinning = spinning

    def stream(self) -> Any:
        """A CUDA stream."""
        import torch

        return torch.cuda.Stream()

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """Make it the current stream of this thread."""
        import torch

        current: AbstractContextManager[Any] = torch.cuda.stream(stream)
        return current

    def mark(self, stream: Any) -> Any:
        """A CUDA event."""
        import torch

        event = torch.cuda.Event(blocking=not self._spinning)
        event.record(stream)
        return event

    def after(self, stream: Any, event: Any) -> None:
        """On the GPU; the calling thread goes on."""
        stream.wait_event(event)

    def wait(self, event: Any) -> None:
        """Wait for the GPU."""
        event.synchronize()

    def settle(self) -> None:
        """Wait for all streams."""
        import torch

        torch.cuda.synchronize()

    def host_buffer(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Pinned memory: from any other, a copy would keep the calling thread waiting."""
        import torch

        return torch.empty(shape, dtype=dtype, pin_memory=True)

    def computing(self) -> AbstractContextManager[Any]:
        """fp32 means fp32: TF32, which cuDNN takes by default, keeps 10 bits of the fraction."""
        import torch

        flags: AbstractContextManager[Any] = torch.backends.cudnn.flags(
            enabled=True, benchmark=self._fixed, deterministic=False, allow_tf32=False
        )
        return flags

    def record(self, compute: Compute, image: Any, stream: Any) -> Recorded:
        """A CUDA graph, https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs."""
        import torch

        with self.on(stream):
            static = image.clone()
            for _ in range(WARMUP_RUNS):
                compute(static)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Another thread may be fetching results meanwhile, which "global" would take for an error.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            outputs = compute(static)
        return Recorded(static, outputs, graph.replay)
