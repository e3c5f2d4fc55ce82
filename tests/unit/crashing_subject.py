"""Subjects for workers, each of which goes wrong in its own way. Imported by the worker."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import Any

from saccade.errors import MissingExtraError, ModelError


class Subject:
    def __init__(self, value: int = 0) -> None:
        self._value = value
        self._kept: list[bytearray] = []

    def add(self, more: int) -> int:
        self._value += more
        return self._value

    def echo(self, value: Any) -> Any:
        return value

    def pid(self) -> int:
        return os.getpid()

    def variable(self, name: str) -> str | None:
        return os.environ.get(name)

    def signal_self(self, number: int) -> None:
        os.kill(os.getpid(), number)
        threading.Event().wait()

    def read_null(self) -> None:
        ctypes.string_at(0)

    def abort(self) -> None:
        os.abort()

    def exit(self, code: int) -> None:
        sys.stderr.write("last words\n")
        sys.stderr.flush()
        os._exit(code)

    def leave(self) -> None:
        sys.exit(3)

    def chatter_and_die(self) -> None:
        for index in range(100_000):
            sys.stderr.write(f"line {index}\n")
        sys.stderr.flush()
        os.abort()

    def hang(self) -> None:
        threading.Event().wait()

    def hang_deaf(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        threading.Event().wait()

    def take_mb(self, megabytes: int) -> None:
        # Written to, so that it is resident.
        self._kept.append(bytearray(os.urandom(1) * (megabytes * 1_000_000)))
        threading.Event().wait()

    def out_of_memory(self) -> None:
        raise MemoryError

    def fail(self, message: str) -> None:
        raise ValueError(message)

    def refuse(self) -> None:
        raise ModelError("The model is no good. Give another.")

    def lack(self) -> None:
        raise MissingExtraError("openvino", "openvino", "The runtime")

    def fail_oddly(self) -> None:
        class Local(Exception):  # noqa: N818
            def __reduce__(self) -> Any:
                raise TypeError("not picklable")

        raise Local("odd")

    def print(self, text: str) -> int:
        print(text, flush=True)
        os.write(1, text.encode())
        return len(text)

    def unsendable(self) -> Any:
        return threading.Lock()


class Refuses:
    def __init__(self, message: str) -> None:
        raise ModelError(message)


class Dies:
    def __init__(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)
        threading.Event().wait()
