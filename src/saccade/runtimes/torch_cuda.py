"""PyTorch on NVIDIA GPUs: copies beside computation, half precision, CUDA graphs.

Not verified on hardware: no GPU was at hand in this project.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import RuntimeFailure, first_line
from saccade.models.torch_program import leaves
from saccade.runtimes.contract import (
    Availability,
    OperatorTime,
    Runtime,
    Session,
    SessionRequest,
    Ticket,
)
from saccade.runtimes.pooled import checked
from saccade.runtimes.torch_device import CudaDevice, Device
from saccade.runtimes.torch_lanes import GraphLane, Lane
from saccade.runtimes.torch_loading import (
    FORMATS,
    GRAPH_LEVELS,
    Forward,
    Preparation,
    import_torch,
    load,
    optimized,
)
from saccade.runtimes.torch_precision import autocasting, half_of, store_halved
from saccade.runtimes.torch_profiling import Profiling
from saccade.runtimes.torch_requests import Request

UNVERIFIED = "NVIDIA GPUs"
TITLE = "PyTorch"
CUDA_GRAPH = "cuda_graph"
LEVELS = (*GRAPH_LEVELS, CUDA_GRAPH)
# Two inferences at the same time fill the gaps of a GPU, four nearly all of them; every lane more
# keeps activations of its own. Streams are counted in the CPU's cores, which may be many.
MOST_LANES = 4


class TorchCuda(Runtime):
    """PyTorch's CUDA backend."""

    name = "torch-cuda"
    package = "torch"

    @staticmethod
    def availability() -> Availability:
        """Whether a build for CUDA is installed and a GPU answers; without one, loads nothing."""
        reason, installed, precisions = _what_there_is()
        return Availability(
            reason is None,
            installed,
            reason or f"NVIDIA GPU, {', '.join(precisions)}",
            "torch",
            precisions,
            FORMATS,
            devices=("cuda",),
            unverified=UNVERIFIED,
        )

    @staticmethod
    def open(request: SessionRequest) -> Session:
        """Load an exported program onto the GPU.

        Raises:
            MissingExtraError: torch is not installed, or torchvision where NMS is asked for.
            RuntimeFailure: there is no GPU, or the program or the options were refused.
        """
        torch = import_torch("The PyTorch runtime")
        if not torch.cuda.is_available():
            raise RuntimeFailure(
                f"PyTorch {torch.__version__} finds no GPU that it can use. Install a build for "
                "CUDA on a machine with an NVIDIA GPU, or use the runtime 'torch'."
            )
        fixed = request.input_hw is not None
        return DeviceSession(request, CudaDevice(fixed, request.options.spinning))


def _what_there_is() -> tuple[str | None, str, tuple[str, ...]]:
    """Why it cannot be used, None where it can; the version; precisions with a fast path."""
    half = ("fp32", "fp16")
    try:
        installed = version("torch")
    except PackageNotFoundError:
        return "not installed", "", half
    from saccade.environment import detect

    if detect().gpu is None:
        return "without an NVIDIA GPU that answers", installed, half
    try:
        import torch

        if not torch.cuda.is_available():
            return "built without CUDA, or for another driver", installed, half
        # Before Ampere there are no bf16 units.
        newer = torch.cuda.get_device_capability()[0] >= 8
    except Exception as error:  # a broken installation must not break `doctor`
        return f"unable to load: {first_line(error)}", installed, half
    return None, installed, (*half, "bf16") if newer else half


class DeviceSession(Session):
    """A module on a device; inferences are started by the caller's thread and run by the device.

    Args:
        request: what the session is opened for.
        device: where it runs. On `saccade.runtimes.torch_device.HostDevice` everything but CUDA
            graphs works as on a GPU, one thing after the other.
    """

    def __init__(self, request: SessionRequest, device: Device) -> None:
        torch = import_torch("The PyTorch runtime")
        self._wanted, self._device = request, device
        options = request.options
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        # Loading is safe to repeat, so what can be refused is refused before anything is held.
        half = half_of(options.precision)
        self._casting: Callable[[], AbstractContextManager[Any]]
        self._casting = autocasting(device.name, half)
        loaded = load(request, device.name)
        self._prepare = Preparation(request.graph_preprocessing, options.channels_last, device.name)
        # A recording has kernels and no operators, so operator times are those of the model run
        # eagerly.
        self._recorded = options.graph_level == CUDA_GRAPH and not request.profile
        self._profiling = Profiling(request.profile, device.name)
        self._forward: Forward | None = None
        self._lanes: Iterator[Lane] = iter(())
        try:
            # The weights of TorchScript belong to the file's own code.
            if half is not None and request.model.format == "torch_export":
                store_halved(loaded.module, half)
            self._forward = self._optimized(loaded.module)
            self._lanes = itertools.cycle(self._made_lanes())
        except Exception as error:
            raise RuntimeFailure(
                f"{TITLE} refused '{options.graph_level}': {first_line(error)}"
            ) from error
        device.settle()  # weights were copied on a stream that the lanes do not wait for
        self._alone = Request(device, loaded.suppression)
        # None wakes those who wait when the session closes.
        self._free: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        for _ in range(max(1, options.in_flight)):
            self._free.put(Request(device, loaded.suppression))
        self._under_way: set[Request] = set()
        self._lock = threading.Lock()
        self._closed = False

    def _optimized(self, module: Any) -> Forward:
        level = self._wanted.options.graph_level
        if level not in LEVELS:
            raise RuntimeFailure(f"unknown; known: {', '.join(LEVELS)}")
        # What is recorded is the eager module.
        level = "default" if level == CUDA_GRAPH else level
        with self._device.computing():
            return optimized(module, level, self._example(), self._casting)

    def _example(self) -> Any:
        """An input as the module gets it; None where inputs have no fixed size."""
        return None if self._image() is None else self._prepare(self._image())

    def _image(self) -> Any:
        """An input as the session gets it, on the device."""
        import torch

        hw, pre = self._wanted.input_hw, self._wanted.graph_preprocessing
        if hw is None:
            return None
        shape, dtype = ((1, 3, *hw), torch.float32) if pre is None else ((1, *hw, 3), torch.uint8)
        return torch.zeros(shape, dtype=dtype, device=self._device.name)

    def _made_lanes(self) -> list[Lane]:
        import torch

        kind = GraphLane if self._recorded else Lane
        count = min(max(1, self._wanted.options.streams), MOST_LANES)
        lanes = [kind(self._device, self._compute) for _ in range(count)]
        image = self._image()
        self._device.settle()
        for lane in lanes if image is not None else ():
            with torch.inference_mode():
                lane.warm(image)
        return lanes

    def _compute(self, image: Any) -> list[Any]:
        """All outputs on the device, float32, as the host is to have them."""
        assert self._forward is not None
        with self._device.computing():
            prepared = self._prepare(image)
            with self._casting():
                outputs = leaves(self._forward(prepared))
        return [output.contiguous() for output in outputs]

    def infer(self, tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Run once and wait."""
        self._start(self._alone, tensor)
        return self._alone.finish()

    def submit(self, tensor: NDArray[Any]) -> Ticket:
        """Start an inference; its copies overlap the computation of those before and after."""
        request = self._free.get()
        if request is None:
            self._free.put(None)  # for whoever else is waiting
            raise RuntimeFailure(f"The {TITLE} session is closed.")
        try:
            self._start(request, tensor)
        except RuntimeFailure:
            self._free.put(request)
            raise
        return Ticket(request)

    def _start(self, request: Request, tensor: NDArray[Any]) -> None:
        checked(tensor, self._wanted.graph_preprocessing, TITLE)
        with self._lock:
            if self._closed:
                raise RuntimeFailure(f"The {TITLE} session is closed.")
            self._profiling.next_run()
            request.start(tensor, next(self._lanes))
            self._under_way.add(request)

    def collect(self, ticket: Ticket) -> list[NDArray[np.float32]]:
        """Wait for ``ticket``."""
        request: Request = ticket.payload
        return request.finish()

    def release(self, ticket: Ticket) -> None:
        """Allow another `submit` to use the buffers."""
        request: Request = ticket.payload
        request.settle()  # where it was not collected, the GPU may still be writing
        ticket.payload = None
        self._free.put(request)

    def operators(self) -> list[OperatorTime]:
        """Time in each kind of operator, on the GPU; ends the profiling."""
        self._device.settle()
        return self._profiling.operators()

    def close(self) -> None:
        """Finish what is under way, and drop the model and its recordings."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._free.put(None)
        for request in self._under_way:
            request.settle()
        self._device.settle()
        self._profiling.stop()
        self._under_way.clear()
        self._forward, self._lanes = None, iter(())
