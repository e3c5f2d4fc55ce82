"""The one contract of inference runtimes, and the base class that states its rules.

A runtime is one file: ``availability`` says whether it can run here, ``open`` turns a
model into a `Session`. Everything held on behalf of a session is acquired in ``open``
and released in ``close``. Sessions are used from one submitting and one waiting thread.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import RuntimeFailure
from saccade.models.description import Preprocessing
from saccade.pipeline.config import ModelFile, RuntimeOptions


@dataclass(frozen=True)
class Availability:
    """Whether a runtime can be used here.

    Attributes:
        ok: it is installed and loads.
        version: its version, empty where it is not installed.
        detail: devices and precisions it offers, or why it cannot be used.
        extra: the saccade extra that installs it.
        precisions: those that it has a fast path for here.
        formats: model formats that it takes, as in `ModelFile.format`.
        devices: what it can run on here, ``"cpu"``, ``"cuda"``.
        dynamic: models may be written for any input size. Where not, a model is converted for
            one size and refuses the others, unless its graph happens to allow them.
        unverified: hardware that it is meant for and has never run on in this project.
    """

    ok: bool
    version: str = ""
    detail: str = ""
    extra: str = ""
    precisions: tuple[str, ...] = ("fp32",)
    formats: tuple[str, ...] = ("onnx",)
    devices: tuple[str, ...] = ("cpu",)
    dynamic: bool = True
    unverified: str = ""


@dataclass(frozen=True)
class OperatorTime:
    """Time of one operator in one inference, averaged over the profiled inferences.

    Attributes:
        name: node name, the ONNX one where the runtime keeps it.
        kind: operator type, ``"Conv"``, ``"MatMul"``.
        wall_ms: mean milliseconds per inference.
        precision: arithmetic it ran in, ``"fp32"``, ``"bf16"``, ``"int8"``, where known.
        kernel: the runtime's name of the implementation, where known.
        flops: floating-point (or integer) operations per inference, 0 where unknown.
        bytes: bytes read and written per inference, 0 where unknown.
    """

    name: str
    kind: str
    wall_ms: float
    precision: str = "fp32"
    kernel: str = ""
    flops: float = 0.0
    bytes: float = 0.0


@dataclass(frozen=True)
class SessionRequest:
    """What a session is opened for.

    Attributes:
        model: the model file.
        input_hw: fixed input height and width; None lets every call choose its own.
        options: how to execute.
        input_name: the image input.
        graph_preprocessing: where given, the session takes ``(1, H, W, 3)`` uint8 RGB letterboxed
            images and the graph does the rest; else ``(1, 3, H, W)`` float32.
        profile: collect operator times (slower; never measured).
    """

    model: ModelFile
    input_hw: tuple[int, int] | None
    options: RuntimeOptions
    input_name: str
    graph_preprocessing: Preprocessing | None = None
    profile: bool = False


@dataclass
class Ticket:
    """One submitted inference. ``payload`` belongs to the runtime."""

    payload: Any = None
    meta: dict[str, Any] = field(default_factory=dict)


class Session(ABC):
    """A loaded model, ready to run."""

    @abstractmethod
    def infer(self, tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Run once and wait. The outputs are valid until the next call.

        Raises:
            RuntimeFailure: the runtime refused the input or failed.
        """

    @abstractmethod
    def submit(self, tensor: NDArray[Any]) -> Ticket:
        """Start an inference and return at once; waits while ``in_flight`` are under way.

        The caller must leave ``tensor`` alone until the ticket has been collected.

        Raises:
            RuntimeFailure: the runtime refused the input (here or in `collect`), or the session
                was closed, also while this call was waiting.
        """

    @abstractmethod
    def collect(self, ticket: Ticket) -> list[NDArray[np.float32]]:
        """Wait for ``ticket``. The outputs are valid until `release`.

        Raises:
            RuntimeFailure: the inference failed; the ticket still has to be released.
        """

    @abstractmethod
    def release(self, ticket: Ticket) -> None:
        """Give the ticket's buffers back, so that another `submit` may use them."""

    @abstractmethod
    def operators(self) -> list[OperatorTime]:
        """Operator times of the inferences so far; needs ``profile=True`` in the request."""

    @abstractmethod
    def close(self) -> None:
        """Release everything. Calling it twice is allowed.

        Tickets under way are finished first and may still be collected and released.
        """


class Runtime(ABC):
    """An inference runtime.

    Attributes:
        name: as in `saccade.plugins`.
        package: import name of the library, where it is not ``name``.
    """

    name: str = ""
    package: str = ""

    @staticmethod
    @abstractmethod
    def availability() -> Availability:
        """Whether it can be used here; never raises."""

    @staticmethod
    @abstractmethod
    def open(request: SessionRequest) -> Session:
        """Load a model.

        Raises:
            MissingExtraError: the runtime is not installed.
            RuntimeFailure: it refused the model or the options.
        """


def check_precision(options: RuntimeOptions, offered: Iterable[str], title: str) -> None:
    """Refuse arithmetic that a runtime does not have, rather than run another in its place.

    Args:
        options: as asked for.
        offered: precisions that the runtime has, with a fast path here or without.
        title: the library's name.

    Raises:
        RuntimeFailure: as said.
    """
    if options.precision not in offered:
        raise RuntimeFailure(
            f"{title} has no {options.precision}; use {' or '.join(offered)}, or another runtime."
        )
