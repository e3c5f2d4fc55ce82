"""TensorRT on NVIDIA GPUs.

Not verified on hardware: no GPU was at hand in this project. Written for TensorRT 10 after
NVIDIA's Python API reference; memory of the GPU is held by PyTorch tensors.
"""

from __future__ import annotations

import queue
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import MissingExtraError, RuntimeFailure
from saccade.models.description import Preprocessing
from saccade.runtimes.contract import Availability, Runtime, Session, SessionRequest, first_line
from saccade.runtimes.pooled import PooledSession, checked
from saccade.runtimes.tensorrt_engine import EngineSettings, build_engine

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
        """Whether the package is installed, PyTorch is, and a GPU answers; loads neither."""
        reason, installed = _why_not()
        return Availability(
            reason is None,
            installed,
            reason or f"NVIDIA GPU, {', '.join(PRECISIONS)}",
            "tensorrt",
            PRECISIONS,
            FORMATS,
            devices=("cuda",),
            unverified=UNVERIFIED,
        )

    @staticmethod
    def open(request: SessionRequest) -> Session:
        """Build an engine from ONNX, which takes minutes, or load one that was built here.

        Raises:
            MissingExtraError: tensorrt or torch is not installed.
            RuntimeFailure: the model, the engine or the options were refused.
        """
        return TensorRtSession(request)


def _why_not() -> tuple[str | None, str]:
    from saccade.environment import detect

    try:
        installed = version("tensorrt")
    except PackageNotFoundError:
        return (
            "not installed (its libraries come from NVIDIA); for another device, `saccade export "
            "--kit` writes a script that builds and measures there",
            "",
        )
    try:
        version("torch")
    except PackageNotFoundError:
        return "without torch, which holds the GPU's memory", installed
    return (None if detect().gpu is not None else "without an NVIDIA GPU that answers"), installed


class TensorRtSession(PooledSession):
    """An engine, with an execution context and a CUDA stream for every stream asked for."""

    def __init__(self, request: SessionRequest) -> None:
        super().__init__(request, TITLE)
        try:
            import tensorrt as trt
            import torch
        except ImportError as error:
            raise MissingExtraError("tensorrt", "tensorrt", "The TensorRT runtime") from error
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
        runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine: Any = runtime.deserialize_cuda_engine(_engine_of(request))
        if self._engine is None:
            raise RuntimeFailure(
                "TensorRT refused the engine: it was built by another version or for another GPU. "
                "Build it again on this machine."
            )
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        modes = {name: self._engine.get_tensor_mode(name) for name in names}
        self._inputs = [name for name in names if modes[name] == trt.TensorIOMode.INPUT]
        self._outputs = [name for name in names if modes[name] == trt.TensorIOMode.OUTPUT]
        self._types = {name: _torch_type(trt, torch, self._engine, name) for name in names}
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(request.options.streams):
            self._idle.put((self._engine.create_execution_context(), torch.cuda.Stream()))

    def _run(self, tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        pre = self._request.graph_preprocessing
        checked(tensor, pre, TITLE)
        context, stream = self._idle.get()
        try:
            with self._torch.cuda.stream(stream):
                return self._executed(context, stream, self._on_gpu(tensor, pre))
        except RuntimeFailure:
            raise
        except Exception as error:
            raise RuntimeFailure(f"TensorRT failed to run: {first_line(error)}") from error
        finally:
            self._idle.put((context, stream))

    def _on_gpu(self, tensor: NDArray[Any], pre: Preprocessing | None) -> Any:
        """The input on the GPU; pixels are normalized there."""
        image = self._torch.from_numpy(np.ascontiguousarray(tensor)).pin_memory()
        image = image.to("cuda", non_blocking=True)
        if pre is None:
            return image
        mean, std = (
            self._torch.tensor(v, device="cuda").view(1, 3, 1, 1) for v in (pre.mean, pre.std)
        )
        planes = image.permute(0, 3, 1, 2).float()
        return ((planes * pre.scale - mean) / std).contiguous()

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
        self._engine = None


def _engine_of(request: SessionRequest) -> bytes:
    """The engine's bytes: those of the file, or built from ONNX."""
    path = Path(request.model.path)
    if request.model.format == "tensorrt_engine":
        return path.read_bytes()
    settings = EngineSettings(
        hw=request.input_hw or USUAL_HW,
        fixed=request.input_hw is not None,
        fp16=request.options.precision == "fp16",
        int8=request.model.quantized,
        timing_cache=Path(tempfile.gettempdir()) / "saccade-tensorrt.timings",
    )
    return build_engine(path.read_bytes(), request.input_name, settings)


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
