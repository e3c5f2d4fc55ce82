"""LiteRT (TensorFlow Lite) with XNNPACK: what phones run, and what an Edge TPU is compiled from."""

from __future__ import annotations

import queue
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import MissingExtraError, RuntimeFailure, first_line
from saccade.runtimes.contract import Availability, Runtime, Session, SessionRequest
from saccade.runtimes.pixel_input import normalized, quantized_table, to_steps
from saccade.runtimes.pooled import PooledSession, checked

# Hardware it is meant for and has never run on in this project.
UNVERIFIED = "Arm phones, Edge TPU"
FORMATS = ("tflite",)
TITLE = "LiteRT"


class LiteRt(Runtime):
    """LiteRT's interpreter on the CPU, float and full-integer through XNNPACK."""

    name = "litert"
    package = "ai_edge_litert"

    @staticmethod
    def availability() -> Availability:
        """Whether the package is installed; does not load it."""
        try:
            installed = version("ai-edge-litert")
        except PackageNotFoundError:
            return Availability(
                False,
                detail="not installed",
                extra="litert",
                formats=FORMATS,
                dynamic=False,
                unverified=UNVERIFIED,
            )
        return Availability(
            True,
            installed,
            "CPU through XNNPACK, fp32 and full-integer int8",
            "litert",
            ("fp32", "int8"),
            FORMATS,
            dynamic=False,
            unverified=UNVERIFIED,
        )

    @staticmethod
    def open(request: SessionRequest) -> Session:
        """Load a ``.tflite`` file.

        Raises:
            MissingExtraError: ai-edge-litert is not installed.
            RuntimeFailure: the file, its input or the options were refused.
        """
        return LiteRtSession(request)


@dataclass(frozen=True)
class Port:
    """An input or output tensor.

    Attributes:
        index: of the tensor in the interpreter.
        shape: as the file says.
        dtype: NumPy type.
        scale: size of a step, 0 where the tensor is float.
        zero_point: the step that stands for zero.
    """

    index: int
    shape: tuple[int, ...]
    dtype: Any
    scale: float
    zero_point: int

    @classmethod
    def of(cls, details: dict[str, Any]) -> Port:
        """From what the interpreter says of a tensor."""
        scale, zero_point = details["quantization"]
        shape = tuple(int(side) for side in details["shape"])
        return cls(details["index"], shape, details["dtype"], float(scale), int(zero_point))

    @property
    def channels_last(self) -> bool:
        """Whether an image lies in it pixel by pixel, ``(1, H, W, 3)``."""
        return self.shape[-1] == 3 and self.shape[1] != 3

    def image_shape(self, hw: tuple[int, int]) -> tuple[int, ...]:
        """Its shape for images of that size."""
        return (1, *hw, 3) if self.channels_last else (1, 3, *hw)


class LiteRtSession(PooledSession):
    """As many interpreters as there are streams, because one runs one inference at a time."""

    def __init__(self, request: SessionRequest) -> None:
        super().__init__(request, TITLE)
        self._check(request)
        first = self._interpreter()
        self._input = Port.of(first.get_input_details()[0])
        self._check_input(first)
        self._table = self._pixel_table()
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._idle.put(self._sized(first, request.input_hw))
        for _ in range(request.options.streams - 1):
            self._idle.put(self._sized(self._interpreter(), request.input_hw))

    @staticmethod
    def _check(request: SessionRequest) -> None:
        if request.model.format not in FORMATS:
            raise RuntimeFailure(
                f"LiteRT cannot run a model in {request.model.format} format; it takes .tflite."
            )
        if request.options.precision != "fp32":
            raise RuntimeFailure(
                f"LiteRT has no {request.options.precision} here; use fp32 or a full-integer model."
            )

    def _interpreter(self) -> Any:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingExtraError("ai_edge_litert", "litert", "The LiteRT runtime") from error
        try:
            interpreter = Interpreter(self._request.model.path, num_threads=self.threads)
            interpreter.allocate_tensors()
        except Exception as error:
            raise RuntimeFailure(f"LiteRT refused the model: {first_line(error)}") from error
        return interpreter

    def _check_input(self, interpreter: Any) -> None:
        count, port = len(interpreter.get_input_details()), self._input
        if count != 1 or len(port.shape) != 4 or 3 not in (port.shape[1], port.shape[3]):
            raise RuntimeFailure(
                f"LiteRT's model takes {count} inputs, the first of shape {port.shape}; one image "
                "of shape (1, H, W, 3) or (1, 3, H, W) was expected."
            )

    def _pixel_table(self) -> NDArray[Any] | None:
        """Where the input is quantized, pixels become steps of it by looking them up."""
        pre, port = self._request.graph_preprocessing, self._input
        if pre is None or not port.scale:
            return None
        return quantized_table(pre, port.scale, port.zero_point, port.dtype)

    def _sized(self, interpreter: Any, hw: tuple[int, int] | None) -> Any:
        """The interpreter, its input resized where that is needed and the graph allows it."""
        if hw is None:
            return interpreter
        shape = self._input.image_shape(hw)
        now = tuple(int(side) for side in interpreter.get_input_details()[0]["shape"])
        if shape == now:
            return interpreter
        try:
            interpreter.resize_tensor_input(self._input.index, shape)
            interpreter.allocate_tensors()
        except Exception as error:
            interpreter.resize_tensor_input(self._input.index, now)
            interpreter.allocate_tensors()
            raise RuntimeFailure(
                f"LiteRT's model was made for an input of {now} and does not take {shape} "
                f"({first_line(error)}). Convert it again for that size."
            ) from error
        return interpreter

    def _run(self, tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        checked(tensor, self._request.graph_preprocessing, TITLE)
        sides = tensor.shape[2:] if self._request.graph_preprocessing is None else tensor.shape[1:3]
        interpreter = self._idle.get()
        try:
            self._sized(interpreter, (sides[0], sides[1]))
            interpreter.set_tensor(self._input.index, self._fed(tensor))
            interpreter.invoke()
            details = interpreter.get_output_details()
            return [_floats(Port.of(d), interpreter.get_tensor(d["index"])) for d in details]
        except RuntimeFailure:
            raise
        except Exception as error:
            raise RuntimeFailure(f"LiteRT failed to run: {first_line(error)}") from error
        finally:
            self._idle.put(interpreter)

    def _fed(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """The tensor in the layout and type of the model's input."""
        pre, port = self._request.graph_preprocessing, self._input
        if pre is None:
            laid_out = tensor.transpose(0, 2, 3, 1) if port.channels_last else tensor
            values = np.ascontiguousarray(laid_out)
            if not port.scale:
                return values
            return to_steps(values, port.scale, port.zero_point, port.dtype)
        if self._table is None:
            image = normalized(tensor, pre)
        else:
            image = np.empty(tensor.shape, port.dtype)
            for channel in range(3):
                image[..., channel] = self._table[channel][tensor[..., channel]]
        return image if port.channels_last else np.ascontiguousarray(image.transpose(0, 3, 1, 2))

    def _drop(self) -> None:
        self._idle = queue.SimpleQueue()


def _floats(port: Port, values: NDArray[Any]) -> NDArray[Any]:
    """An output as floats; what the file holds as floats or indices stays as it is."""
    if not port.scale:
        return values
    return (values.astype(np.float32) - port.zero_point) * np.float32(port.scale)
