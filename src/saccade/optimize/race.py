"""A and B measured in turns, in small blocks, in worker processes with the same affinity."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from saccade import plugins
from saccade.data.contract import DataProblem
from saccade.measurement import Block
from saccade.optimize.change import Objective
from saccade.optimize.measuring import BlockReply
from saccade.optimize.worker import Worker
from saccade.pipeline.config import PipelineConfig
from saccade.runtimes.model_cache import SWITCHED_OFF
from saccade.statistics import Comparison, compare, noise_floor, warmup_end

SUBJECT = "saccade.optimize.measuring:Subject"
# Frames before each block at least: caches that the other side has used must fill again.
LEAST_WARMUP = 2
FIRST_WARMUP = 16
MORE_WARMUPS = 2
# The interval of every race already holds the noise within it. What A against A adds is how far
# two equal workers lie apart, and one standard error of that is enough.
AA_LEVEL = 0.68
OPEN_TIMEOUT_S = 120.0
# A block may also take so many times as long as the speed of the first one says.
BLOCK_TIMEOUT_S, SLOWER = 120.0, 5.0
# Runtimes that build an engine before the first frame; small boards time kernels for long.
BUILD_TIMEOUT_S = {"tensorrt": 3600.0, "onnxruntime-tensorrt": 3600.0}
MIN_FRAMES, MAX_FRAMES = 10, 400
# Of the frames under way at a time, so many times as many are measured at least: with fewer, when
# the first and the last of them happen to come out decides.
ROUNDS = 2
# Blocks of slow pipelines take longer than planned; an undecided race ends after so many times the
# length that it was planned for.
PATIENCE = 2.0
# Frames of the source on which two configurations are compared.
COMPARED, COMPARED_TIMEOUT_S = 12, 300.0
# A block that only waited may have spent less CPU than the clock can show.
MIN_CORE_MS = 1e-6


@dataclass(frozen=True)
class RacePlan:
    """How long to race.

    Attributes:
        block_s: length of a block of the slower side, seconds.
        min_pairs: pairs that are always run.
        max_pairs: pairs after which an undecided race ends as it stands.
        share: of the time that is left; an undecided race takes no more, but for ``min_pairs``.
    """

    block_s: float = 0.8
    min_pairs: int = 4
    max_pairs: int = 7
    share: float = 1.0


class Runner:
    """One configuration in its worker, warmed up, ready to be raced again and again.

    Attributes:
        subject: what the worker makes of the configuration and the source.
    """

    subject: ClassVar[str] = SUBJECT

    def __init__(self, config: PipelineConfig, source: str) -> None:
        self.config = config
        self.problems: tuple[DataProblem, ...] = ()
        self.worker = Worker(
            self.subject, (config, source), timeout_s=OPEN_TIMEOUT_S, environment=SWITCHED_OFF
        )
        try:
            self.first: BlockReply = self._warmed_up()
        except BaseException:
            self.worker.close()
            raise

    def _warmed_up(self) -> BlockReply:
        """The first block whose latencies have settled, or the last of a few that have not."""
        parts = getattr(self.config, "parts", (self.config,))
        patience = max(BUILD_TIMEOUT_S.get(part.runtime, BLOCK_TIMEOUT_S) for part in parts)
        frames = max(MIN_FRAMES, self.config.frames_ahead)
        reply = self._measured(frames, max(FIRST_WARMUP, self.warmup), None, patience)
        for _ in range(MORE_WARMUPS):
            latencies = reply.block.latency_ms
            if warmup_end(latencies) < len(latencies):
                break
            reply = self._measured(frames, self.warmup, None, BLOCK_TIMEOUT_S)
        return reply

    @property
    def warmup(self) -> int:
        """Frames before each block: then as many are under way as always will be."""
        return max(LEAST_WARMUP, self.config.frames_ahead)

    def block(self, frames: int, at: int | None = None) -> BlockReply:
        """Measure one block.

        Args:
            frames: how many, or more as far as `whole` asks for it.
            at: where they begin in the source; without, the stream goes on.
        """
        frames = self.whole(frames)
        expected_s = (self.warmup + frames + self.config.frames_ahead) / self.first.block.fps
        return self._measured(frames, self.warmup, at, max(BLOCK_TIMEOUT_S, SLOWER * expected_s))

    def _measured(self, frames: int, warmup: int, at: int | None, timeout_s: float) -> BlockReply:
        reply: BlockReply = self.worker.call("block", frames, warmup, at, timeout_s=timeout_s)
        self.problems = reply.problems
        return reply

    def whole(self, frames: int) -> int:
        """So many frames, or a few more.

        Where many are under way at a time there have to be several times as many; inferences that
        run in step end at the same time, so a block holds whole steps.
        """
        least = max(frames, MIN_FRAMES, ROUNDS * self.config.frames_ahead)
        step = self.config.in_step
        return -(-least // step) * step

    def frames_for(self, seconds: float) -> int:
        """How many frames take about that long."""
        return self.whole(int(min(self.first.block.fps * seconds, MAX_FRAMES)))

    @cached_property
    def answers(self) -> dict[str, Any]:
        """Task → what it says of some frames of the source, whatever was measured before."""
        threshold = self.config.score_threshold
        asked = (COMPARED, "selection", threshold)
        found = self.worker.call("watch", *asked, timeout_s=COMPARED_TIMEOUT_S)
        return {self.config.task: found}

    def close(self) -> None:
        """End the worker."""
        self.worker.close()


@dataclass(frozen=True)
class RaceResult:
    """Blocks of both sides in pairs, and what they say.

    Attributes:
        comparison: the candidate against the reference, above 1 is better.
        cpu: the same for frames per second of CPU time; far less noisy than wall time.
    """

    reference: tuple[Block, ...]
    candidate: tuple[Block, ...]
    comparison: Comparison
    cpu: Comparison


def race(
    reference: Runner,
    candidate: Runner,
    objective: Objective,
    resolution: float,
    plan: RacePlan,
    time_left: Callable[[], float],
) -> RaceResult:
    """Alternate blocks until the difference is clear or the plan or the time is used up.

    Both sides see the same frames: the blocks of a pair begin at the same one, and are of equal
    numbers of frames but for what `Runner.whole` adds.
    """
    frames = min(reference.frames_for(plan.block_s), candidate.frames_for(plan.block_s))
    before: list[Block] = []
    after: list[Block] = []
    patience_s = min(PATIENCE * 2 * plan.block_s * plan.max_pairs, plan.share * time_left())
    until = time.monotonic() + patience_s
    for pair, at in enumerate(beginnings(reference, candidate, frames), start=1):
        # Order alternates, so that drift within a pair does not favour one side.
        turns = [(reference, before), (candidate, after)]
        for side, blocks in turns[:: 1 if pair % 2 else -1]:
            blocks.append(side.block(frames, at).block)
        result = raced(before, after, objective, resolution)
        decided = result.comparison.verdict != "not distinguishable"
        last = pair >= plan.max_pairs or time.monotonic() > until
        if pair >= plan.min_pairs and (decided or last):
            break
        if pair >= 2 and time_left() <= 0:
            break
    return result


def beginnings(first: Runner, second: Runner, frames: int) -> Iterator[int]:
    """Where the blocks of each pair begin in the source; neither side has to go back for one."""
    sides = (first, second)
    warmup = max(side.warmup for side in sides)
    longest = max(side.whole(frames) + side.config.frames_ahead for side in sides)
    return itertools.count(warmup, warmup + longest)


def raced(
    reference: Sequence[Block],
    candidate: Sequence[Block],
    objective: Objective,
    resolution: float,
) -> RaceResult:
    """What blocks that were measured in pairs say."""
    return RaceResult(
        tuple(reference),
        tuple(candidate),
        compare_blocks(candidate, reference, objective, resolution),
        cpu_comparison(candidate, reference),
    )


def same_answers(reference: Runner, candidate: Runner) -> bool:
    """Whether both say the same of the same frames in every task, but for rounding."""
    return all(
        plugins.load("tasks", task).same(said, candidate.answers[task])
        for task, said in reference.answers.items()
    )


def compare_blocks(
    candidate: Sequence[Block],
    reference: Sequence[Block],
    objective: Objective,
    resolution: float,
) -> Comparison:
    """Compare by the objective: frames per second, or frames per second of latency."""
    return compare(
        [speed(block, objective) for block in candidate],
        [speed(block, objective) for block in reference],
        resolution,
    )


def cpu_comparison(candidate: Sequence[Block], reference: Sequence[Block]) -> Comparison:
    """Compare by CPU time per frame."""
    return compare(
        [1 / max(MIN_CORE_MS, block.core_ms_per_frame) for block in candidate],
        [1 / max(MIN_CORE_MS, block.core_ms_per_frame) for block in reference],
        0.0,
    )


def against_itself(
    first: Runner,
    twin: Runner,
    objective: Objective,
    frames: int,
    go_on: Callable[[int], bool],
) -> tuple[tuple[Block, ...], float]:
    """Race a configuration against its twin; the blocks, and the difference resolvable now.

    ``go_on`` is asked with the number of pairs so far.
    """
    blocks: list[Block] = []
    for pair, at in enumerate(beginnings(first, twin, frames)):
        if not go_on(pair):
            break
        order = (first, twin) if pair % 2 == 0 else (twin, first)
        found = {runner: runner.block(frames, at).block for runner in order}
        blocks += (found[first], found[twin])
    return tuple(blocks), resolution_of(blocks, objective)


def resolution_of(blocks: Sequence[Block], objective: Objective) -> float:
    """The difference resolvable, by blocks of `against_itself`, which are in pairs."""
    speeds = [speed(block, objective) for block in blocks]
    return noise_floor(list(zip(speeds[::2], speeds[1::2], strict=True)), AA_LEVEL)


def speed(block: Block, objective: Objective) -> float:
    """A block's speed, larger is better: throughput, or the inverse of its median latency."""
    return block.fps if objective == "throughput" else 1e3 / float(np.median(block.latency_ms))
