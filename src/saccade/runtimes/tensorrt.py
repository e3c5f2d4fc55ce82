"""TensorRT on NVIDIA GPUs.

Not verified on hardware: no GPU was at hand in this project. Written for TensorRT 10 after
NVIDIA's Python API reference; memory of the GPU is held by PyTorch tensors.
"""

from __future__ import annotations

import queue
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import MissingExtraError, RuntimeFailure, SaccadeError, first_line
from saccade.runtimes import tensorrt_package
from saccade.runtimes.contract import Availability, Runtime, Session, SessionRequest
from saccade.runtimes.pooled import PooledSession, checked
from saccade.runtimes.tensorrt_cache import Builder, engine_path, keep, kept, timings_path
from saccade.runtimes.tensorrt_engine import built_engine
from saccade.runtimes.tensorrt_settings import EngineSettings
from saccade.runtimes.tensorrt_trtexec import trtexec_program
from saccade.runtimes.torch_loading import Preparation

UNVERIFIED = "NVIDIA GPUs, Jetson"
FORMATS = ("onnx", "tensorrt_engine")
PRECISIONS = ("fp32", "fp16", "int8")
TITLE = "TensorRT"
USUAL_HW = (640, 640)


class TensorRt(Runtime):
    """TensorRT engines, built on the machine that runs them."""

    name = "tensorrt"

    @staticmethod
    def availability() -> Availability:
        """Whether the package is installed, PyTorch is, and a GPU answers; loads neither.

        The package is needed, because it runs the engines. It builds them too; ``trtexec`` does
        where its builder is missing or fails.
        """
        reason, installed = _why_not()
        return Availability(
            reason is None,
            installed,
            reason or f"NVIDIA GPU, {', '.join(PRECISIONS)}; {_builders()}",
            "tensorrt",
            PRECISIONS,
            FORMATS,
            devices=("cuda",),
            unverified=UNVERIFIED,
        )

    @staticmethod
    def open(request: SessionRequest) -> Session:
        """Build an engine from ONNX, which takes minutes, or load one that was built here.

        What is built is kept for later sessions, see `saccade.runtimes.tensorrt_cache`.

        Raises:
            MissingExtraError: tensorrt or torch is not installed.
            RuntimeFailure: the model, the engine or the options were refused.
        """
        return TensorRtSession(request)


def _why_not() -> tuple[str | None, str]:
    """The reason why it cannot be used, None where it can, and the version."""
    from saccade.environment import detect

    installed = tensorrt_package.installed_version()
    if installed is None:
        return _not_installed(), ""
    reason = tensorrt_package.why_not(installed)
    if reason is not None:
        return reason, installed
    try:
        version("torch")
    except PackageNotFoundError:
        return "without torch, which holds the GPU's memory", installed
    return (None if detect().gpu is not None else "without an NVIDIA GPU that answers"), installed


def _not_installed() -> str:
    program = trtexec_program()
    built = f"; {program} builds engines, and the package is what runs them" if program else ""
    return (
        f"not installed (its libraries come from NVIDIA){built}; for another device, `saccade "
        "export --kit` writes a script that builds and measures there"
    )


def _builders() -> str:
    program = trtexec_program()
    if program is None:
        return "engines are built by the package (no trtexec on the PATH)"
    return f"engines are built by the package, or by {program} where that fails"


class TensorRtSession(PooledSession):
    """An engine, with an execution context and a CUDA stream for every stream asked for."""

    def __init__(self, request: SessionRequest) -> None:
        super().__init__(request, TITLE)
        trt = tensorrt_package.load("The TensorRT runtime")
        try:
            import torch
        except ImportError as error:
            raise MissingExtraError("torch", "tensorrt", "The TensorRT runtime") from error
        if request.model.format not in FORMATS:
            raise RuntimeFailure(
                f"TensorRT cannot run a model in {request.model.format} format; it takes ONNX and "
                "engines."
            )
        if request.options.precision not in PRECISIONS:
            raise RuntimeFailure(
                f"TensorRT has no {request.options.precision} here; use fp16 or fp32."
            )
        self._torch: Any = torch
        try:
            self._acquire(trt, torch, request)
        except SaccadeError:
            raise
        except Exception as error:  # the errors of both libraries share no base
            raise RuntimeFailure(
                f"TensorRT could not load the model: {first_line(error)}."
            ) from error

    def _acquire(self, trt: Any, torch: Any, request: SessionRequest) -> None:
        # It has to live as long as its engines do.
        self._runtime: Any = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        builder = Builder(trt.__version__, torch.cuda.get_device_name())
        self._engine: Any = loaded_engine(self._runtime, request, builder)
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        modes = {name: self._engine.get_tensor_mode(name) for name in names}
        self._inputs = [name for name in names if modes[name] == trt.TensorIOMode.INPUT]
        self._outputs = [name for name in names if modes[name] == trt.TensorIOMode.OUTPUT]
        self._prepare = Preparation(request.graph_preprocessing, False, "cuda")
        self._types = {name: _torch_type(trt, torch, self._engine, name) for name in names}
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(request.options.streams):
            self._idle.put((self._engine.create_execution_context(), torch.cuda.Stream()))

    def _run(self, tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        checked(tensor, self._request.graph_preprocessing, TITLE)
        context, stream = self._idle.get()
        try:
            with self._torch.cuda.stream(stream):
                return self._executed(context, stream, self._on_gpu(tensor))
        except RuntimeFailure:
            raise
        except Exception as error:
            raise RuntimeFailure(f"TensorRT failed to run: {first_line(error)}") from error
        finally:
            self._idle.put((context, stream))

    def _on_gpu(self, tensor: NDArray[Any]) -> Any:
        """The input on the GPU; pixels are normalized there."""
        image = self._torch.from_numpy(np.ascontiguousarray(tensor)).pin_memory()
        return self._prepare(image.to("cuda", non_blocking=True)).contiguous()

    def _executed(self, context: Any, stream: Any, image: Any) -> list[NDArray[np.float32]]:
        torch, name = self._torch, self._inputs[0]
        image = image.to(self._types[name])
        if not context.set_input_shape(name, tuple(image.shape)):
            low, _, high = self._engine.get_tensor_profile_shape(name, 0)
            raise RuntimeFailure(
                f"TensorRT's engine does not take {tuple(image.shape)}; it was built for "
                f"{tuple(low)} to {tuple(high)}. Build it again for this size."
            )
        context.set_tensor_address(name, image.data_ptr())
        outputs = []
        for each in self._outputs:
            shape = tuple(context.get_tensor_shape(each))
            outputs.append(torch.empty(shape, dtype=self._types[each], device="cuda"))
            context.set_tensor_address(each, outputs[-1].data_ptr())
        if not context.execute_async_v3(stream.cuda_stream):
            raise RuntimeFailure("TensorRT failed to run; its log on stderr says why.")
        stream.synchronize()
        floats = (o.float() if o.is_floating_point() else o for o in outputs)
        return [values.cpu().numpy() for values in floats]

    def _drop(self) -> None:
        self._idle = queue.SimpleQueue()
        self._engine = self._runtime = None


def loaded_engine(runtime: Any, request: SessionRequest, builder: Builder) -> Any:
    """The engine of a session: the file itself, one that was kept, or one that is built now.

    Args:
        runtime: TensorRT's, which loads engines.
        request: what the session is opened for.
        builder: what an engine that is built now is bound to.

    Raises:
        MissingExtraError: tensorrt is not installed.
        RuntimeFailure: the model or the engine was refused.
    """
    path = Path(request.model.path)
    if request.model.format == "tensorrt_engine":
        return _accepted(runtime.deserialize_cuda_engine(path.read_bytes()))
    settings = _settings(request)
    place = engine_path(request.model.sha256, request.input_name, settings, builder)
    known = kept(place)
    engine = runtime.deserialize_cuda_engine(known) if known else None
    if engine is not None:
        return engine
    settings = replace(settings, timing_cache=timings_path(builder))
    content = built_engine(path, request.input_name, settings)
    engine = _accepted(runtime.deserialize_cuda_engine(content))
    keep(place, content)
    return engine


def _settings(request: SessionRequest) -> EngineSettings:
    return EngineSettings(
        hw=request.input_hw or USUAL_HW,
        fixed=request.input_hw is not None,
        fp16=request.options.precision == "fp16",
        int8=request.model.quantized,
    )


def _accepted(engine: Any) -> Any:
    if engine is None:
        raise RuntimeFailure(
            "TensorRT refused the engine: it was built by another version (trtexec may be of one) "
            "or for another GPU. Build it again on this machine, by the installed version."
        )
    return engine


def _torch_type(trt: Any, torch: Any, engine: Any, name: str) -> Any:
    """The PyTorch type of one of the engine's tensors."""
    names = {
        trt.DataType.FLOAT: torch.float32,
        trt.DataType.HALF: torch.float16,
        trt.DataType.INT8: torch.int8,
        trt.DataType.INT32: torch.int32,
        trt.DataType.INT64: torch.int64,
        trt.DataType.BOOL: torch.bool,
        trt.DataType.UINT8: torch.uint8,
    }
    return names[engine.get_tensor_dtype(name)]
