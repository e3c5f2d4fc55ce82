"""Seconds that the training process spends in telling people and loggers about itself.

A job prints, logs and writes metrics from within its loss and its model, where their time would
pass for computing. Calls are timed in the measuring process alone, and for good: a compiled model
would be compiled again if they changed.
"""

from __future__ import annotations

import builtins
import functools
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

# Module, class (or nothing) and function of what jobs log with, where the module is in use.
LOGGERS = (
    ("torch.utils.tensorboard.writer", "SummaryWriter", "add_scalar"),
    ("torch.utils.tensorboard.writer", "SummaryWriter", "add_scalars"),
    ("torch.utils.tensorboard.writer", "SummaryWriter", "add_image"),
    ("torch.utils.tensorboard.writer", "SummaryWriter", "add_images"),
    ("torch.utils.tensorboard.writer", "SummaryWriter", "add_histogram"),
    ("mlflow", "", "log_metric"),
    ("mlflow", "", "log_metrics"),
    ("wandb", "", "log"),
)
_TIMED = "_saccade_timed"


class _Spent(threading.local):
    """Of one thread: loaders' threads do not hold up a step by what they print."""

    seconds = 0.0
    inside = False


_SPENT = _Spent()


def spent_s() -> float:
    """Seconds that this thread has spent so, since it began; 0 where nothing is timed."""
    return _SPENT.seconds


def is_saying() -> bool:
    """Whether this thread is printing or logging right now, as far as that is timed."""
    return _SPENT.inside


def time_output() -> None:
    """Time ``print``, handlers of ``logging``, and the loggers that the job has imported.

    Calling it again times what was imported since.
    """
    _replace(builtins, "print")
    _replace(logging.Handler, "handle")
    for module, kind, function in LOGGERS:
        owner = sys.modules.get(module)
        owner = getattr(owner, kind, None) if kind else owner
        if owner is not None and hasattr(owner, function):
            _replace(owner, function)


def _replace(owner: Any, name: str) -> None:
    original = getattr(owner, name)
    if not hasattr(original, _TIMED):
        setattr(owner, name, timed(original))


def timed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose time is added up; what it calls that is timed counts once."""

    @functools.wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        if _SPENT.inside:
            return function(*arguments, **named)
        began = time.perf_counter()
        _SPENT.inside = True
        try:
            return function(*arguments, **named)
        finally:
            _SPENT.inside = False
            _SPENT.seconds += time.perf_counter() - began

    setattr(called, _TIMED, True)
    return called
