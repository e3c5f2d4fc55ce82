"""A runtime without native code, and relatives of it that fail in each way a runtime can.

They are named in a configuration by import name, ``saccade.testing.fake_runtime:FakeRuntime``,
and so need no entry in the table of plug-ins. `FakeRuntime` really computes: it evaluates the
ONNX graph with the reference implementation of the standard, so it suits tiny models only.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from saccade.errors import RuntimeFailure
from saccade.runtimes.contract import (
    Availability,
    OperatorTime,
    Runtime,
    Session,
    SessionRequest,
    Ticket,
    check_precision,
)

Fault = Literal["", "refuse", "fail", "garbage", "crash", "hang"]
CRASH_CODE = 70


class FakeRuntime(Runtime):
    """Evaluates the graph in Python; the same outputs on every machine.

    Attributes:
        fault: what goes wrong: `open` raises (``refuse``), or from inference number ``fault_at``
            on `infer` raises (``fail``), gives NaN (``garbage``), ends the process
            (``crash``) or never returns (``hang``).
        fault_at: the first inference of a session with the fault, counted from 1.
    """

    name: str = "fake"
    fault: ClassVar[Fault] = ""
    fault_at: ClassVar[int] = 1

    @staticmethod
    def availability() -> Availability:
        """Always there."""
        return Availability(True, "1", "pure Python, for tests")

    @classmethod
    def open(cls, request: SessionRequest) -> Session:
        """Read the model.

        Raises:
            RuntimeFailure: the file is no ONNX model, or the fault is to refuse.
        """
        check_precision(request.options, ("fp32",), "The fake runtime")
        if cls.fault == "refuse":
            raise RuntimeFailure("The fake runtime refuses every model, as it was told to.")
        return FakeSession(request, cls.fault, cls.fault_at)


class RefusingRuntime(FakeRuntime):
    """Refuses every model."""

    fault: ClassVar[Fault] = "refuse"


class FailingRuntime(FakeRuntime):
    """Opens, and raises `RuntimeFailure` from the third inference on."""

    fault: ClassVar[Fault] = "fail"
    fault_at: ClassVar[int] = 3


class GarbageRuntime(FakeRuntime):
    """Opens, and answers with NaN."""

    fault: ClassVar[Fault] = "garbage"


class CrashingRuntime(FakeRuntime):
    """Opens, and takes the whole process with it at the third inference."""

    fault: ClassVar[Fault] = "crash"
    fault_at: ClassVar[int] = 3


class HangingRuntime(FakeRuntime):
    """Opens, and never returns from the third inference."""

    fault: ClassVar[Fault] = "hang"
    fault_at: ClassVar[int] = 3


class FakeSession(Session):
    """One graph, evaluated where it is submitted."""

    def __init__(self, request: SessionRequest, fault: Fault = "", fault_at: int = 1) -> None:
        from onnx.reference import ReferenceEvaluator

        try:
            model = _read(request)
            self._evaluator = ReferenceEvaluator(model)
        except Exception as error:
            raise RuntimeFailure(f"The fake runtime cannot read the model: {error}") from error
        self._input = model.graph.input[0].name
        self._nodes = [(node.name or node.output[0], node.op_type) for node in model.graph.node]
        self._dtype = np.float32 if request.graph_preprocessing is None else np.uint8
        self._profile = request.profile
        self._fault, self._fault_at = fault, fault_at
        self._runs = 0
        self._places = threading.Semaphore(max(1, request.options.in_flight))
        self._closed = False

    def infer(self, tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Evaluate the graph, or do what the fault says."""
        if self._closed:
            raise RuntimeFailure("The fake session is closed.")
        if tensor.dtype != self._dtype:
            raise RuntimeFailure(f"The fake runtime got {tensor.dtype}, expected {self._dtype}.")
        self._runs += 1
        faulty = self._runs >= self._fault_at
        if faulty:
            self._misbehave()
        try:
            outputs = self._evaluator.run(None, {self._input: tensor})
        except Exception as error:
            raise RuntimeFailure(f"The fake runtime failed to run: {error}") from error
        if faulty and self._fault == "garbage":
            return [np.full_like(output, np.nan) for output in outputs]
        return [np.asarray(output, np.float32) for output in outputs]

    def _misbehave(self) -> None:
        if self._fault == "fail":
            raise RuntimeFailure("The fake runtime failed, as it was told to.")
        if self._fault == "crash":
            os._exit(CRASH_CODE)
        if self._fault == "hang":
            threading.Event().wait()

    def submit(self, tensor: NDArray[Any]) -> Ticket:
        """Take a place and evaluate at once; the answer waits in the ticket."""
        self._places.acquire()
        try:
            return Ticket(self.infer(tensor))
        except BaseException:
            self._places.release()
            raise

    def collect(self, ticket: Ticket) -> list[NDArray[np.float32]]:
        """The answer."""
        outputs: list[NDArray[np.float32]] = ticket.payload
        return outputs

    def release(self, ticket: Ticket) -> None:
        """Give the place back."""
        ticket.payload = None
        self._places.release()

    def operators(self) -> list[OperatorTime]:
        """Every node of the graph, at a made-up millisecond each."""
        if not self._profile:
            raise RuntimeFailure("Operator times need a session that was opened with profile=True.")
        return [OperatorTime(name, kind, 1.0) for name, kind in self._nodes]

    def close(self) -> None:
        """Refuse everything from now on."""
        self._closed = True
        self._places.release()  # wakes a `submit` that waits


def _read(request: SessionRequest) -> Any:
    import onnx

    from saccade.models.graph_preprocess import with_preprocessing

    model = onnx.load_model_from_string(Path(request.model.path).read_bytes())
    onnx.checker.check_model(model)
    if request.graph_preprocessing is None:
        return model
    return with_preprocessing(model, request.input_name, request.graph_preprocessing)
