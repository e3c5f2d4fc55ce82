"""OpenVINO on the CPU."""

from __future__ import annotations

import contextlib
import queue
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import MissingExtraError, RuntimeFailure, first_line
from saccade.models.description import Preprocessing
from saccade.pipeline.config import RuntimeOptions
from saccade.runtimes.contract import (
    Availability,
    OperatorTime,
    Runtime,
    Session,
    SessionRequest,
    Ticket,
    check_precision,
)
from saccade.runtimes.model_cache import LIMIT_BYTES, cache_folder
from saccade.runtimes.openvino_core import openvino_core
from saccade.user_cache import trim

FORMATS = ("onnx", "openvino_ir")
PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
HINTS = {"latency": "LATENCY", "throughput": "THROUGHPUT"}


class OpenVino(Runtime):
    """OpenVINO's CPU device."""

    name = "openvino"

    @staticmethod
    def availability() -> Availability:
        """Whether the package is installed and which precisions this CPU has a fast path for."""
        try:
            installed = version("openvino")
        except PackageNotFoundError:
            return Availability(False, detail="not installed", extra="openvino", formats=FORMATS)
        try:
            offered = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        except Exception as error:  # a broken installation must not break `doctor`
            return Availability(
                False, installed, f"does not load: {error}", "openvino", (), FORMATS
            )
        fast = ["fp32"] + [p for p in ("bf16", "int8") if p.upper() in offered]
        return Availability(
            True, installed, f"CPU, {', '.join(fast)}", "openvino", tuple(fast), FORMATS
        )

    @staticmethod
    def open(request: SessionRequest) -> Session:
        """Load an ONNX or OpenVINO IR file and compile it.

        Raises:
            MissingExtraError: openvino is not installed.
            RuntimeFailure: the model or the options were refused.
        """
        return OpenVinoSession(request)


class OpenVinoSession(Session):
    """A compiled model with a fixed pool of asynchronous infer requests.

    There are as many as ``in_flight``. Where OpenVINO chooses its streams and says that more are
    best, there are that many, or some of its streams would stand still.

    A model that was compiled before comes from the cache (`saccade.runtimes.model_cache`), which
    gives the same numbers.
    """

    def __init__(self, request: SessionRequest) -> None:
        try:
            import openvino as ov
        except ImportError as error:
            raise MissingExtraError("openvino", "openvino", "The OpenVINO runtime") from error
        self._ov = ov
        check_precision(request.options, PRECISIONS, "OpenVINO")
        try:
            compiled = self._compile(ov, request)
        except RuntimeFailure:
            raise
        except Exception as error:
            raise RuntimeFailure(f"OpenVINO refused the model: {first_line(error)}") from error
        self._compiled = compiled
        self._sync = compiled.create_infer_request()
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(_pool_size(compiled, request)):
            self._free.put(compiled.create_infer_request())
        self._profile = request.profile
        self._profiled: list[Any] = []
        self._closed = False

    def _compile(self, ov: Any, request: SessionRequest) -> Any:
        core = openvino_core()
        model = core.read_model(request.model.path)
        if request.input_hw is not None:
            _reshape(model, request.input_hw)
        if request.graph_preprocessing is not None:
            model = _with_preprocessing(ov, model, request.graph_preprocessing)
        options = request.options
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[options.precision],
            **_streams(options),
            # Pinned threads fight with the decoder's thread for the same core.
            "ENABLE_CPU_PINNING": False,
        }
        if options.threads:
            settings["INFERENCE_NUM_THREADS"] = options.threads
        if request.profile:
            settings["PERF_COUNT"] = True
            return core.compile_model(model, "CPU", settings)
        return _compiled(core, model, settings)

    def infer(self, tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Run once and wait."""
        if self._closed:
            raise RuntimeFailure("The OpenVINO session is closed.")
        try:
            self._sync.infer(
                {0: self._ov.Tensor(tensor, shared_memory=True)},
                share_inputs=True,
                share_outputs=True,
            )
        except Exception as error:
            raise RuntimeFailure(f"OpenVINO failed to run: {first_line(error)}") from error
        if self._profile:
            self._profiled.append(self._sync.profiling_info)
        return self._outputs(self._sync)

    def _outputs(self, request: Any) -> list[NDArray[np.float32]]:
        return [tensor.data for tensor in request.output_tensors]

    def submit(self, tensor: NDArray[Any]) -> Ticket:
        """Start one of the pool's requests."""
        request = self._free.get()
        if self._closed:
            self._free.put(request)  # for whoever else is waiting
            raise RuntimeFailure("The OpenVINO session is closed.")
        try:
            shared = self._ov.Tensor(tensor, shared_memory=True)
            request.set_input_tensor(shared)
            request.start_async()
        except Exception as error:
            self._free.put(request)
            raise RuntimeFailure(f"OpenVINO failed to start: {first_line(error)}") from error
        return Ticket(request, {"tensor": shared})

    def collect(self, ticket: Ticket) -> list[NDArray[np.float32]]:
        """Wait for ``ticket``; the outputs are views on the request's buffers."""
        try:
            ticket.payload.wait()
        except Exception as error:
            raise RuntimeFailure(f"OpenVINO failed to run: {first_line(error)}") from error
        if self._profile:
            self._profiled.append(ticket.payload.profiling_info)
        return self._outputs(ticket.payload)

    def release(self, ticket: Ticket) -> None:
        """Put the request back into the pool."""
        if not self._closed:
            self._free.put(ticket.payload)
        ticket.payload = None

    def operators(self) -> list[OperatorTime]:
        """Operator times from OpenVINO's performance counters."""
        from saccade.profile.operators import parse_openvino_profile

        if not self._profile:
            raise RuntimeFailure("Operator times need a session that was opened with profile=True.")
        return parse_openvino_profile(self._profiled)

    def close(self) -> None:
        """Drop requests and model; their memory is freed with them."""
        self._closed = True
        self._profiled.clear()
        self._sync = None
        with contextlib.suppress(queue.Empty):
            while True:
                self._free.get_nowait()
        self._free.put(None)  # wakes a `submit` that waits for a request
        self._compiled = None


def _reshape(model: Any, hw: tuple[int, int]) -> None:
    """Give the model's input a size, in place.

    Raises:
        RuntimeFailure: the model holds its size in constants, as exporters write it.
    """
    shape = model.inputs[0].partial_shape
    height, width = hw
    try:
        model.reshape([1, 3, height, width])
    except RuntimeError as error:
        own = "x".join(str(side) for side in list(shape)[2:])
        raise RuntimeFailure(
            f"The model is made for inputs of {own} and could not be changed to {height}x{width}. "
            "Export it for that size, or with dynamic height and width."
        ) from error


def _streams(options: RuntimeOptions) -> dict[str, Any]:
    """How many inferences run at the same time: as many as were asked for, or as OpenVINO likes."""
    if options.hint == "none":
        return {"NUM_STREAMS": options.streams}
    # Several streams share the cores: one request at a time would only get its share of them.
    hint = options.hint if options.in_flight > 1 else "latency"
    return {"PERFORMANCE_HINT": HINTS[hint]}


def _pool_size(compiled: Any, request: SessionRequest) -> int:
    asked = max(1, request.options.in_flight)
    if "PERFORMANCE_HINT" not in _streams(request.options):
        return asked
    return max(asked, int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")))


def _compiled(core: Any, model: Any, settings: dict[str, Any]) -> Any:
    """The model, compiled or from the cache; OpenVINO checks that what is there fits."""
    folder = cache_folder("openvino")
    if folder is None:
        return core.compile_model(model, "CPU", settings)
    compiled = core.compile_model(model, "CPU", {**settings, "CACHE_DIR": str(folder)})
    if not compiled.get_property("LOADED_FROM_CACHE"):
        trim(folder, LIMIT_BYTES, "*.blob")
    return compiled


def _with_preprocessing(ov: Any, model: Any, pre: Preprocessing) -> Any:
    """Let the graph take uint8 NHWC pixels in the model's channel order."""
    from openvino.preprocess import PrePostProcessor

    processor = PrePostProcessor(model)
    image = processor.input()
    image.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    image.model().set_layout(ov.Layout("NCHW"))
    steps = image.preprocess().convert_element_type(ov.Type.f32)
    if any(pre.mean):
        steps.mean([value / pre.scale for value in pre.mean])
    steps.scale([value / pre.scale for value in pre.std])
    return processor.build()
