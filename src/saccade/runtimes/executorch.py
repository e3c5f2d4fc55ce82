"""ExecuTorch with the XNNPACK delegate: PyTorch's own way onto phones."""

from __future__ import annotations

import queue
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import MissingExtraError, RuntimeFailure, first_line
from saccade.runtimes.contract import Availability, Runtime, Session, SessionRequest
from saccade.runtimes.pixel_input import to_planes
from saccade.runtimes.pooled import PooledSession, checked

# Hardware it is meant for and has never run on in this project.
UNVERIFIED = "Arm phones"
FORMATS = ("executorch",)
TITLE = "ExecuTorch"
METHOD = "forward"
# Flatbuffers have a name after the offset of their root; ExecuTorch's begins with these.
_NAME = slice(4, 6)


class ExecuTorch(Runtime):
    """ExecuTorch on the CPU, float and int8 as the program says."""

    name = "executorch"

    @staticmethod
    def availability() -> Availability:
        """Whether the package is installed; does not load it, which takes seconds."""
        try:
            installed = version("executorch")
        except PackageNotFoundError:
            return Availability(
                False,
                detail="not installed",
                extra="executorch",
                formats=FORMATS,
                dynamic=False,
                unverified=UNVERIFIED,
            )
        return Availability(
            True,
            installed,
            "CPU through XNNPACK, fp32 and int8",
            "executorch",
            ("fp32", "int8"),
            FORMATS,
            dynamic=False,
            unverified=UNVERIFIED,
        )

    @staticmethod
    def open(request: SessionRequest) -> Session:
        """Load a ``.pte`` file.

        Raises:
            MissingExtraError: executorch is not installed.
            RuntimeFailure: the program or the options were refused.
        """
        return ExecuTorchSession(request)


class ExecuTorchSession(PooledSession):
    """A program for every stream, because one runs one inference at a time."""

    def __init__(self, request: SessionRequest) -> None:
        super().__init__(request, TITLE)
        if request.model.format not in FORMATS:
            raise RuntimeFailure(
                f"ExecuTorch cannot run a model in {request.model.format} format; it takes .pte."
            )
        if request.options.precision != "fp32":
            raise RuntimeFailure(
                f"ExecuTorch has no {request.options.precision} here; use fp32 or an int8 program."
            )
        try:
            import torch
            from executorch.runtime import Runtime as Library
        except ImportError as error:
            raise MissingExtraError("executorch", "executorch", "The ExecuTorch runtime") from error
        self._torch: Any = torch
        self._library: Any = Library
        self._set_threads()
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(request.options.streams):
            self._idle.put(self._loaded(Path(request.model.path)))

    def _set_threads(self) -> None:
        """Size the one pool of the process; only where it changes, because nothing may run then."""
        from executorch.extension.pybindings import portable_lib

        wanted = self._request.options.threads
        if wanted is not None and portable_lib._threadpool_get_thread_count() != wanted:
            portable_lib._unsafe_reset_threadpool(wanted)

    def _loaded(self, path: Path) -> tuple[Any, Any]:
        """A program and its method, which reads the program's memory and does not keep it."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise RuntimeFailure(f"{path.name} cannot be read: {error.strerror}.") from error
        if data[_NAME] != b"ET":
            raise RuntimeFailure(f"{path.name} is no ExecuTorch program. Convert the model again.")
        try:
            program = self._library.get().load_program(data)
            method = program.load_method(METHOD)
        except Exception as error:
            raise RuntimeFailure(f"ExecuTorch refused the program: {first_line(error)}") from error
        if method is None:
            raise RuntimeFailure(f"{path.name} has no method '{METHOD}'.")
        return program, method

    def _run(self, tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        pre = self._request.graph_preprocessing
        checked(tensor, pre, TITLE)
        planes = tensor if pre is None else to_planes(tensor, pre)
        image = self._torch.from_numpy(np.ascontiguousarray(planes))
        loaded = self._idle.get()
        try:
            outputs = loaded[1].execute([image])
        except Exception as error:
            raise RuntimeFailure(
                f"ExecuTorch failed to run on {tensor.shape}: {first_line(error)}. Programs made "
                "for one input size refuse the others; convert the model for this size."
            ) from error
        finally:
            self._idle.put(loaded)
        return [output.numpy() for output in outputs]

    def _drop(self) -> None:
        self._idle = queue.SimpleQueue()
