"""Measurements happen in fresh worker processes, so that one cannot disturb the next.

A runtime that crashes, hangs or eats the memory takes its worker with it and nothing else:
`Worker.call` turns all three into a `WorkerFailure`. Run as a module this file is the worker.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any, BinaryIO

import psutil

from saccade import scratch
from saccade.errors import RuntimeFailure, SaccadeError, WorkerFailure
from saccade.scratch import scratch_folder

_HEADER = struct.Struct("<Q")
_POLL_S = 0.25
# What a dying process gets to finish, and how much of its last words is read.
_GRACE_S = 0.5
_LAST_WORDS = 4096
# A worker may take this share of the memory that was free when it began.
MEMORY_SHARE = 0.8


class Worker:
    """A child process that holds one measured subject.

    Args:
        kind: ``module:attribute`` of a class; the worker makes one and calls its methods.
        arguments: passed to it.
        memory_limit_mb: the worker is ended above this much resident memory.
        environment: added to the environment of the process.
    """

    def __init__(
        self,
        kind: str,
        arguments: tuple[Any, ...],
        *,
        timeout_s: float = 120.0,
        memory_limit_mb: float | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        self._scratch = scratch_folder()
        self._limit_mb = memory_limit_mb or MEMORY_SHARE * free_memory_mb()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "saccade.optimize.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, scratch.VARIABLE: self._scratch.name, **(environment or {})},
        )
        try:
            self._exchange(("make", kind, arguments), timeout_s)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def call(self, method: str, *arguments: Any, timeout_s: float = 120.0) -> Any:
        """Call a method of the subject.

        Raises:
            WorkerFailure: the process died, did not answer in time, or used too much memory.
            SaccadeError: whatever the method raised.
        """
        return self._exchange(("call", method, arguments), timeout_s)

    def _exchange(self, message: Any, timeout_s: float) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        if self._process.stdin.closed:
            raise WorkerFailure("The worker has ended and cannot be asked anything more.")
        try:
            write_message(self._process.stdin, message)
            self._wait(timeout_s)
            kind, value = read_message(self._process.stdout)
        except (BrokenPipeError, EOFError):
            obituary = self._obituary()
            self.close()
            raise WorkerFailure(obituary) from None
        if kind == "error":
            raise value
        return value

    def _wait(self, timeout_s: float) -> None:
        """Wait for an answer, watching the clock and the worker's memory."""
        deadline = time.monotonic() + timeout_s
        assert self._process.stdout is not None
        while not select.select([self._process.stdout], [], [], _POLL_S)[0]:
            if time.monotonic() > deadline:
                self.close()
                raise WorkerFailure(
                    f"The worker did not answer within {timeout_s:.0f} s and was stopped (hung)."
                )
            self._check_memory()

    def _check_memory(self) -> None:
        try:
            used_mb = psutil.Process(self._process.pid).memory_info().rss / 1e6
        except psutil.Error:
            return
        if used_mb > self._limit_mb:
            self.close()
            raise WorkerFailure(
                f"The worker used {used_mb:.0f} MB, above its limit of {self._limit_mb:.0f} MB, "
                "and was stopped (out of memory)."
            )

    def _obituary(self) -> str:
        code = self._end()
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LAST_WORDS))
        last = self._log.read().decode(errors="replace").strip().splitlines()[-1:]
        said = f": {last[0][:200]}" if last else ""
        if code == -signal.SIGKILL:
            return f"The worker was killed, most likely for lack of memory (SIGKILL){said}"
        if code < 0:
            return f"The worker crashed with {signal.Signals(-code).name}{said}"
        return f"The worker ended with exit code {code}{said}"

    def close(self) -> None:
        """End the process. Calling it twice is allowed."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except OSError:
                    continue
        self._end()
        self._log.close()
        self._scratch.cleanup()

    def _end(self) -> int:
        """Wait for the process a little, then kill it; its exit code."""
        try:
            return self._process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def free_memory_mb() -> float:
    """Memory that may still be taken, in 10^6 bytes, cgroup limit included."""
    from saccade.environment import usable_memory_mb

    available = psutil.virtual_memory().available
    return min(available / 1e6, usable_memory_mb() - psutil.Process().memory_info().rss / 1e6)


def write_message(stream: BinaryIO | Any, message: Any) -> None:
    """Write one length-prefixed pickle."""
    _write(stream, _pickled(message))


def _pickled(message: Any) -> bytes:
    return pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)


def _write(stream: BinaryIO | Any, data: bytes) -> None:
    stream.write(_HEADER.pack(len(data)) + data)
    stream.flush()


def read_message(stream: BinaryIO | Any) -> Any:
    """Read one message.

    Raises:
        EOFError: the other side has gone.
    """
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise EOFError
    (size,) = _HEADER.unpack(header)
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return pickle.loads(data)


def _serve() -> None:
    """The worker's loop: make a subject, call its methods until the parent goes away."""
    # Ctrl-C is the parent's to handle; it closes the pipe when it wants the worker gone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # Libraries that print must not write into the protocol.
    os.dup2(2, 1)
    subject: Any = None
    while True:
        try:
            action, name, arguments = read_message(inbox)
        except EOFError:
            break
        try:
            if action == "make":
                subject, value = _make(name, arguments), None
            else:
                value = getattr(subject, name)(*arguments)
            reply = ("value", value)
        except Exception as error:
            reply = ("error", _portable(error))
        try:
            _answer(outbox, reply)
        except BrokenPipeError:
            break
    # Native threads of runtimes may not survive a normal interpreter shutdown.
    sys.stderr.flush()
    os._exit(0)


def _answer(outbox: BinaryIO, reply: tuple[str, Any]) -> None:
    """Write a reply; one that cannot be pickled becomes an error that says so."""
    try:
        data = _pickled(reply)
    except Exception as error:
        data = _pickled(("error", RuntimeFailure(f"The answer cannot be sent: {error}")))
    _write(outbox, data)


def _make(kind: str, arguments: tuple[Any, ...]) -> Any:
    import importlib

    module, _, attribute = kind.partition(":")
    return getattr(importlib.import_module(module), attribute)(*arguments)


def _portable(error: Exception) -> Exception:
    """An exception that the parent can read; others' types stay behind with their text."""
    if isinstance(error, MemoryError):
        return WorkerFailure("The worker ran out of memory (MemoryError).")
    if isinstance(error, SaccadeError):
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return RuntimeFailure(str(error))
        return error
    import traceback

    traceback.print_exc()
    return RuntimeFailure(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    _serve()
