"""Finds the places in the user's code that wait for single values, or print."""

from __future__ import annotations

import builtins
import os
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from saccade.train import output_clock
from saccade.train.evaluating import evaluate
from saccade.train.loading import open_loader
from saccade.train.loop import TrainingLoop
from saccade.train.output_clock import is_saying, timed
from saccade.train.profile import PRINT, Synchronisation

# What takes a value out of a tensor; on a GPU each waits until the device has computed it.
READING = frozenset(
    {"item", "tolist", "__float__", "__int__", "__bool__", "__index__", "__format__", "__repr__"}
)
# These wait on a GPU only: the size of the result, or the result itself, has to come over.
COPYING = frozenset({"cpu", "to", "nonzero", "masked_select", "unique", "_unique2"})
# Between a print and what it prints, where prints are noted and timed.
PRINTING = (__file__, output_clock.__file__)


@dataclass(frozen=True)
class Place:
    """Where it happened."""

    operator: str
    where: str
    function: str
    device: str
    within_output: bool = False


class Tally:
    """Counts calls by place."""

    def __init__(self) -> None:
        self.calls: dict[Place, int] = {}
        self.waits_s: dict[Place, float] = {}

    def add(self, place: Place, wait_s: float = 0.0) -> None:
        """One call."""
        self.calls[place] = self.calls.get(place, 0) + 1
        self.waits_s[place] = self.waits_s.get(place, 0.0) + wait_s

    def found(self, steps: int, part: str) -> Iterator[Synchronisation]:
        """All places, by step."""
        for place, calls in self.calls.items():
            wait_ms = 1e3 * self.waits_s[place] / steps
            yield Synchronisation(
                operator=place.operator,
                where=place.where,
                per_step=calls / steps,
                function=place.function,
                wait_ms=wait_ms,
                device=place.device,
                part=part,
                within_output=place.within_output,
            )


def watch_syncs(loop: TrainingLoop, steps: int) -> tuple[Synchronisation, ...]:
    """Take steps, load a batch and judge one, and note who asks tensors for values.

    The model runs as it is, not compiled, because compiled code has no lines. On the CPU reading
    a value waits for nothing; calls from the user's own files are noted nevertheless.
    """
    compiled, loop.callable = loop.callable, loop.model
    found: list[Synchronisation] = []
    try:
        loop.use_cached_batch()
        with watched() as tally:
            for _ in range(steps):
                loop.step()
        found += tally.found(steps, "step")
        loop.use_cached_batch(False)
        with watched() as tally:
            _load_here(loop)
        found += tally.found(1, "loader")
        if loop.job.metric is not None:
            with watched() as tally:
                evaluate(loop, loop.config.batch.size)
            # Judging runs the loader and the loss as well, which were seen already.
            seen = {sync.where for sync in found}
            found += [s for s in tally.found(1, "metric") if s.where not in seen]
    finally:
        loop.callable = compiled
    return tuple(sorted(found, key=lambda sync: (-sync.wait_ms, -sync.per_step)))


def _load_here(loop: TrainingLoop) -> None:
    """Make one batch in this process, where its transforms can be seen."""
    config = loop.config.with_loader(backend="torch", workers=0, cache="none", persistent=False)
    loader = open_loader(loop.job, config)
    try:
        next(iter(loader.batches(0)))
    finally:
        loader.close()


@contextmanager
def watched() -> Iterator[Tally]:
    """Note calls that read values of tensors, and prints."""
    tally = Tally()
    with _reads_noted(tally), _prints_noted(tally):
        yield tally


def _reads_noted(tally: Tally) -> Any:
    from torch.overrides import TorchFunctionMode

    class Reads(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            name = getattr(func, "__name__", "")
            if name not in READING and name not in COPYING and name != "__getitem__":
                return func(*args, **(kwargs or {}))
            began = time.perf_counter()
            result = func(*args, **(kwargs or {}))
            place = _place_of(name, args, result, sys._getframe(1))
            if place is not None:
                tally.add(place, time.perf_counter() - began)
            return result

    return Reads()


def _place_of(name: str, args: Any, result: Any, frame: FrameType) -> Place | None:
    device = getattr(args[0], "device", None) if args else None
    if device is None:
        return None
    on_device = device.type != "cpu"
    if name not in READING and not (on_device and _comes_over(name, args, result)):
        return None
    caller, direct = _user_frame(frame)
    # What libraries do with values on the CPU is theirs to know and costs nothing but a call.
    if not on_device and not direct:
        return None
    operator = f"Tensor.{name}"
    if caller is None:
        return Place(operator, "", "", device.type, is_saying())
    function = caller.f_code.co_name
    return Place(operator, _where(caller), function, device.type, is_saying())


def _comes_over(name: str, args: Any, result: Any) -> bool:
    """Whether a call on a device's tensor makes the host wait for it."""
    import torch

    if name in ("cpu", "to"):
        return getattr(getattr(result, "device", None), "type", "") == "cpu"
    if name == "__getitem__":
        keys = args[1] if isinstance(args[1], tuple) else (args[1],)
        return any(isinstance(k, torch.Tensor) and k.dtype is torch.bool for k in keys)
    return True


@contextmanager
def _prints_noted(tally: Tally) -> Iterator[None]:
    original = builtins.print
    saying = timed(original)

    def noted(*values: Any, **settings: Any) -> None:
        began = time.perf_counter()
        saying(*values, **settings)
        caller, direct = _user_frame(sys._getframe(1))
        if caller is not None and direct:
            place = Place(PRINT, _where(caller), caller.f_code.co_name, "cpu")
            tally.add(place, time.perf_counter() - began)

    builtins.print = noted
    try:
        yield
    finally:
        builtins.print = original


def _user_frame(frame: FrameType | None) -> tuple[FrameType | None, bool]:
    """The innermost frame of the user's own code, and whether it calls PyTorch itself."""
    direct = True
    while frame is not None:
        filename = frame.f_code.co_filename
        if not filename.startswith(("<", *_not_the_users())):
            return frame, direct
        direct = direct and filename.startswith((_torch(), *PRINTING))
        frame = frame.f_back
    return None, False


def _where(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


@cache
def _torch() -> str:
    import torch

    return f"{Path(torch.__file__).parent}{os.sep}"


@cache
def _not_the_users() -> tuple[str, ...]:
    """Folders of the standard library, of installed packages, and of this one."""
    paths = sysconfig.get_paths()
    folders = (Path(__file__).parents[1], *(paths[k] for k in ("stdlib", "platlib", "purelib")))
    return (_torch(), *(f"{folder}{os.sep}" for folder in folders))
