"""A training in its worker process, warmed up, ready to be raced again and again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from saccade.optimize.training.group import WorkerGroup
from saccade.optimize.training.held_out import HeldOut
from saccade.optimize.worker import Worker
from saccade.statistics import Comparison, compare
from saccade.train.compiling import compiler_environment
from saccade.train.config import TrainingConfig
from saccade.train.joining import joined_blocks
from saccade.train.records import Evaluation, LossCurve, TrainingBlock
from saccade.train.subject import SUBJECT

# The first step of a compiled model takes minutes on a slow machine.
OPEN_TIMEOUT_S, STEP_TIMEOUT_S = 300.0, 900.0
# What takes so many times as long as expected hangs.
HANGS = 5.0
MAX_WARMUP = 5
# Steps that differ less than this are taken for warmed up.
SETTLED = 0.2
MIN_STEPS, MAX_STEPS = 1, 60

# What is timed: steps with their loading, or steps on one cached batch.
Timed = Literal["block", "synthetic"]


@dataclass(frozen=True)
class Pace:
    """How fast a configuration was, measured alone.

    Attributes:
        samples_per_s: of the steps after the warm-up.
        step_s: their median.
        peak_rss_mb: memory of all its processes; None where that was not measured.
        peak_device_mb: likewise of the GPU's.
    """

    samples_per_s: float
    step_s: float
    peak_rss_mb: float | None = None
    peak_device_mb: float | None = None

    @classmethod
    def of(cls, block: TrainingBlock) -> Pace:
        """What a block says of its configuration."""
        return cls(
            block.samples_per_s,
            float(np.median(block.step_s)),
            block.peak_rss_mb,
            block.peak_device_mb,
        )

    @property
    def metrics(self) -> dict[str, float]:
        """Those that were measured, by their names."""
        found = {
            "samples_per_s": self.samples_per_s,
            "step_ms": 1e3 * self.step_s,
            "peak_rss_mb": self.peak_rss_mb,
            "peak_device_mb": self.peak_device_mb,
        }
        return {name: value for name, value in found.items() if value is not None}


class TrainingRunner:
    """One configuration in its worker.

    Args:
        config: how it trains.
        timed: with loading or without.
        folder: where compilers may keep what they made, for the next worker.
        steps: of the whole training, for the schedule of learning rates.
    """

    def __init__(
        self,
        config: TrainingConfig,
        timed: Timed = "block",
        folder: Path | None = None,
        steps: int | None = None,
    ) -> None:
        self.config, self.timed = config, timed
        self.worker = _opened(config, steps, compiler_environment(folder) if folder else {})
        try:
            if timed == "synthetic":
                self.worker.call("hold_batch", timeout_s=OPEN_TIMEOUT_S)
            self.warmup, self._settled = self._warm_up()
        except BaseException:
            self.worker.close()
            raise

    def _warm_up(self) -> tuple[tuple[float, ...], TrainingBlock | None]:
        """Steps until two that follow each other are alike: their seconds, and the last of them."""
        steps: list[float] = []
        while len(steps) < MAX_WARMUP:
            block = self.block(1)
            steps.append(block.wall_s)
            if len(steps) > 1 and abs(math.log(steps[-1] / steps[-2])) < SETTLED:
                return tuple(steps), block
        return tuple(steps), None

    def block(self, steps: int) -> TrainingBlock:
        """Take steps and time them."""
        block: TrainingBlock = self.worker.call("block", steps, timeout_s=STEP_TIMEOUT_S)
        return block

    def curve(self, seed: int, steps: int, held_out: HeldOut, judgements: int = 1) -> LossCurve:
        """Train from a seed; judged so often, at equal distances."""
        expected_s = steps * self.warmup[-1] + judgements * held_out.seconds
        found: LossCurve = self.worker.call(
            "curve", seed, steps, True, judgements, held_out.samples,
            timeout_s=STEP_TIMEOUT_S + HANGS * expected_s,
        )  # fmt: skip
        return found

    def judge(self, samples: int) -> tuple[int, float]:
        """Judge it on so many held-out samples: how many there were, and seconds that took."""
        began = time.monotonic()
        found: Evaluation = self.worker.call("evaluate", samples, timeout_s=STEP_TIMEOUT_S)
        return found.samples, time.monotonic() - began

    def about(self) -> Mapping[str, Any]:
        """What there is to know of the job."""
        found: Mapping[str, Any] = self.worker.call("about")
        return found

    def steps_for(self, seconds: float) -> int:
        """How many steps take about that long."""
        return int(np.clip(round(seconds / self.warmup[-1]), MIN_STEPS, MAX_STEPS))

    def pace(self, seconds: float) -> Pace:
        """Measure it alone, on two steps at least.

        Where one takes longer than ``seconds``, the last of the warm-up is the first of the two: it
        was like the one before.
        """
        if self._settled is not None and self.warmup[-1] > seconds:
            block = joined_blocks([self._settled, self.block(1)])
        else:
            block = self.block(max(2, self.steps_for(seconds)))
        return Pace.of(block)

    def close(self) -> None:
        """End the worker."""
        self.worker.close()

    def __enter__(self) -> TrainingRunner:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _opened(
    config: TrainingConfig, steps: int | None, environment: Mapping[str, str]
) -> Worker | WorkerGroup:
    """One worker, or one per process that trains."""
    if config.scale.strategy != "single":
        return WorkerGroup(config, steps, timeout_s=OPEN_TIMEOUT_S, environment=environment)
    return Worker(SUBJECT, (config, steps), timeout_s=OPEN_TIMEOUT_S, environment=environment)


@dataclass(frozen=True)
class RacePlan:
    """How long to race.

    Attributes:
        block_s: length of a block of the slower side, seconds.
        min_pairs: pairs that are always run.
        max_pairs: pairs after which an undecided race ends as it stands.
    """

    block_s: float = 2.0
    min_pairs: int = 3
    max_pairs: int = 6


@dataclass(frozen=True)
class TrainingRace:
    """Blocks of both sides in pairs, and what they say of the candidate's samples per second."""

    reference: tuple[TrainingBlock, ...]
    candidate: tuple[TrainingBlock, ...]
    comparison: Comparison


def race(
    reference: TrainingRunner,
    candidate: TrainingRunner,
    resolution: float,
    plan: RacePlan,
    time_left: Callable[[], float],
) -> TrainingRace:
    """Alternate blocks until the difference is clear, or the plan or the time is used up."""
    counts = reference.steps_for(plan.block_s), candidate.steps_for(plan.block_s)
    pairs: list[tuple[TrainingBlock, TrainingBlock]] = []
    while True:
        if len(pairs) % 2:
            second = candidate.block(counts[1])
            pairs.append((reference.block(counts[0]), second))
        else:
            first = reference.block(counts[0])
            pairs.append((first, candidate.block(counts[1])))
        comparison = compare(
            [b.samples_per_s for _, b in pairs], [a.samples_per_s for a, _ in pairs], resolution
        )
        decided = comparison.verdict != "not distinguishable"
        if len(pairs) >= plan.min_pairs and (decided or len(pairs) >= plan.max_pairs):
            break
        if len(pairs) >= 2 and time_left() <= 0:
            break
    return TrainingRace(tuple(a for a, _ in pairs), tuple(b for _, b in pairs), comparison)
