"""What measuring a training costs: the loop with its clocks against the same loop without them.

Both take steps of one training in turns, in one process. The difference is a matter of
microseconds, so it is measured on steps that are short, with batches as large as the U-Net's, and
then set against a step of the U-Net as `saccade train optimize` leaves it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.setting import REPOSITORY, Setting, note
from benchmarks.table import Row
from saccade.optimize.worker import Worker
from saccade.testing.planted_training import HEALTHY
from saccade.train.config import TrainingConfig
from saccade.train.job import open_job, refer
from saccade.train.loop import TrainingLoop
from saccade.train.step_clock import NoClock

UNET = REPOSITORY / "benchmarks" / "jobs" / "unet_camvid.py"
BATCH, BAR = 8, 1.0
PAIRS_PER_SECOND, WARMUP = 60, 20
UNET_STEPS = 4
RESAMPLES = 2000
TIMEOUT_S = 900.0


def measure(setting: Setting) -> list[Row]:
    """Pairs of short steps, and a few steps of the U-Net."""
    pairs = int(PAIRS_PER_SECOND * setting.sizes.block_s * setting.sizes.pairs)
    note(f"overhead of measuring, {pairs} pairs of steps")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "short.py"
        path.write_text(HEALTHY, encoding="utf-8")
        config = TrainingConfig(refer(str(path))).with_batch(size=BATCH).with_compute(threads=1)
        with Worker("benchmarks.train_overhead:Steps", (config,)) as worker:
            measured_s, plain_s = worker.call("pairs", pairs, timeout_s=TIMEOUT_S)
    config = TrainingConfig(refer(str(UNET))).with_batch(size=BATCH)
    config = config.with_compute(channels_last=True, precision="bf16")
    with Worker("saccade.train.subject:TrainingSubject", (config,)) as worker:
        unet_s = worker.call("block", UNET_STEPS, timeout_s=TIMEOUT_S).step_ms / 1e3
    return rows(np.asarray(measured_s), np.asarray(plain_s), unet_s)


def rows(measured_s: NDArray[Any], plain_s: NDArray[Any], unet_s: float) -> list[Row]:
    """The difference with its bootstrap interval, against both kinds of steps."""
    estimate, low, high = difference(measured_s, plain_s)
    detail = (
        f"{1e6 * estimate:.0f} [{1e6 * low:.0f}, {1e6 * high:.0f}] us a step of {BATCH} samples"
    )
    found = []
    short_s = float(np.median(plain_s))
    for name, step_s, bar in (("U-Net", unet_s, BAR), ("short", short_s, None)):
        value, least, most = (100 * seconds / step_s for seconds in (estimate, low, high))
        found.append(
            Row(
                f"overhead of measuring, {name} step of {1e3 * step_s:.1f} ms",
                value,
                least,
                most,
                unit="%",
                bar=bar,
                at_least=False,
                detail=detail,
            )
        )
    return found


def difference(measured_s: NDArray[Any], plain_s: NDArray[Any]) -> tuple[float, float, float]:
    """Difference of the lower quartiles in seconds, which others on the machine disturb least.

    Pairs are resampled whole.
    """
    random = np.random.default_rng(0)
    chosen = random.integers(0, len(plain_s), (RESAMPLES, len(plain_s)))
    again = _lower(measured_s[chosen]) - _lower(plain_s[chosen])
    low, high = np.percentile(again, [2.5, 97.5])
    return float(_lower(measured_s) - _lower(plain_s)), float(low), float(high)


def _lower(seconds: NDArray[Any]) -> Any:
    return np.percentile(seconds, 25, axis=-1)


class Steps:
    """One training whose steps are taken with clocks and without; lives in a worker."""

    def __init__(self, config: TrainingConfig) -> None:
        self._loop = TrainingLoop(open_job(config.job), config)

    def pairs(self, pairs: int) -> tuple[list[float], list[float]]:
        """Wall seconds of measured and of plain steps, in turns; who begins alternates."""
        found: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(WARMUP):
            self._timed(True), self._timed(False)
        for number in range(pairs):
            for measured in (True, False) if number % 2 == 0 else (False, True):
                found[measured].append(self._timed(measured))
        return found[True], found[False]

    def _timed(self, measured: bool) -> float:
        if measured:
            return _seconds(self._loop.step)
        with without_clocks(self._loop):
            return _seconds(self._loop.step)


def _seconds(step: Callable[[], Any]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


@contextmanager
def without_clocks(loop: TrainingLoop) -> Iterator[None]:
    """Neither the loop nor what prepares its samples reads a clock."""
    from saccade.train import samples

    read: Any = samples
    kept = loop.clock, read.time, read.queued_s
    loop.clock, read.time, read.queued_s = NoClock(), NoTime(), _zero
    try:
        yield
    finally:
        loop.clock, read.time, read.queued_s = kept


class NoTime:
    """Stands in for the module `time`."""

    perf_counter = thread_time = staticmethod(lambda: 0.0)


def _zero() -> float:
    return 0.0
