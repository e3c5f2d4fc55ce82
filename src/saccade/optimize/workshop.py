"""Processes that make files, kept for the next job of the kind.

What quantizes or converts a model spends seconds on importing its libraries, at every job of a
search. Unlike a measurement it may have worked before, so its process is used again, unless the
job failed or left much behind.
"""

from __future__ import annotations

import atexit
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from saccade.optimize.worker import Worker, free_memory_mb

# Processes without work that are kept, and the share of the free memory that each may hold.
KEPT = 2
KEPT_SHARE = 0.1
# What of the environment changes what a process does.
_HEEDED = ("SACCADE_", "PYTHON", "OMP_", "PATH")

_Key = tuple[str, str, int, Path, tuple[tuple[str, str], ...]]
_idle: OrderedDict[_Key, Worker] = OrderedDict()


@contextmanager
def workshop(kind: str, tools: str = "") -> Iterator[Worker]:
    """A process with one subject, which may have done other jobs before.

    Args:
        kind: ``module:attribute`` of a class whose methods keep nothing.
        tools: what the process imports for its jobs; those of others get one of their own.

    Raises:
        WorkerFailure: the process cannot be started.
    """
    key = _key(kind, tools)
    worker = _idle.pop(key, None)
    if worker is not None and not worker.alive:
        worker.close()
        worker = None
    if worker is None:
        worker = Worker(kind, ())
    try:
        yield worker
    except BaseException:
        worker.close()
        raise
    _keep(key, worker)


def _key(kind: str, tools: str) -> _Key:
    heeded = ((k, v) for k, v in os.environ.items() if k.startswith(_HEEDED))
    return kind, tools, os.getpid(), Path.cwd(), tuple(sorted(heeded))


def _keep(key: _Key, worker: Worker) -> None:
    other = _idle.pop(key, None)  # of another thread, which was quicker
    if other is not None:
        other.close()
    if not worker.alive or _held_mb(worker) > KEPT_SHARE * free_memory_mb():
        worker.close()
        return
    _idle[key] = worker
    while len(_idle) > KEPT:
        _idle.popitem(last=False)[1].close()


def _held_mb(worker: Worker) -> float:
    try:
        return float(psutil.Process(worker.pid).memory_info().rss / 1e6)
    except psutil.Error:
        return float("inf")


@atexit.register
def close_workshops() -> None:
    """End the processes that wait for work. Calling it twice is allowed."""
    while _idle:
        _idle.popitem()[1].close()
