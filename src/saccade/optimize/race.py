"""A and B measured in turns, in small blocks, in worker processes with the same affinity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from saccade.data.contract import DataProblem
from saccade.measurement import Block
from saccade.optimize.change import Objective
from saccade.optimize.measuring import BlockReply
from saccade.optimize.worker import Worker
from saccade.pipeline.config import PipelineConfig
from saccade.runtimes.model_cache import SWITCHED_OFF
from saccade.statistics import Comparison, compare, noise_floor, warmup_end

SUBJECT = "saccade.optimize.measuring:Subject"
# Frames before each block: what was prepared while the other side ran must not count, and
# caches that the other side has used must fill again.
BLOCK_WARMUP = {"sequential": 2, "overlapped": 8}
FIRST_WARMUP = 16
MORE_WARMUPS = 2
# The interval of every race already holds the noise within it. What A against A adds is how far
# two equal workers lie apart, and one standard error of that is enough.
AA_LEVEL = 0.68
OPEN_TIMEOUT_S = 120.0
BLOCK_TIMEOUT_S = 120.0
# Runtimes that build an engine before the first frame; small boards time kernels for long.
BUILD_TIMEOUT_S = {"tensorrt": 3600.0, "onnxruntime-tensorrt": 3600.0}
MIN_FRAMES, MAX_FRAMES = 10, 400
# A block that only waited may have spent less CPU than the clock can show.
MIN_CORE_MS = 1e-6


@dataclass(frozen=True)
class RacePlan:
    """How long to race.

    Attributes:
        block_s: length of a block of the slower side, seconds.
        min_pairs: pairs that are always run.
        max_pairs: pairs after which an undecided race ends as it stands.
    """

    block_s: float = 0.8
    min_pairs: int = 4
    max_pairs: int = 7


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
        reply = self.block(MIN_FRAMES, FIRST_WARMUP, patience)
        for _ in range(MORE_WARMUPS):
            latencies = reply.block.latency_ms
            if warmup_end(latencies) < len(latencies):
                break
            reply = self.block(MIN_FRAMES)
        return reply

    def block(
        self, frames: int, warmup: int | None = None, timeout_s: float = BLOCK_TIMEOUT_S
    ) -> BlockReply:
        """Measure one block."""
        if warmup is None:
            warmup = BLOCK_WARMUP[self.config.execution]
        reply: BlockReply = self.worker.call("block", frames, warmup, timeout_s=timeout_s)
        self.problems = reply.problems
        return reply

    def frames_for(self, seconds: float) -> int:
        """How many frames take about that long."""
        return int(np.clip(self.first.block.fps * seconds, MIN_FRAMES, MAX_FRAMES))

    def close(self) -> None:
        """End the worker."""
        self.worker.close()


@dataclass(frozen=True)
class RaceResult:
    """Blocks of both sides in pairs, and what they say.

    Attributes:
        comparison: the candidate against the reference, above 1 is better.
        cpu: the same for frames per second of CPU time; far less noisy than wall time.
        results: what each side found on the same frames.
    """

    reference: tuple[Block, ...]
    candidate: tuple[Block, ...]
    comparison: Comparison
    cpu: Comparison
    reference_results: tuple[Any, ...]
    candidate_results: tuple[Any, ...]


def race(
    reference: Runner,
    candidate: Runner,
    objective: Objective,
    resolution: float,
    plan: RacePlan,
    time_left: Callable[[], float],
) -> RaceResult:
    """Alternate blocks until the difference is clear or the plan or the time is used up.

    Both sides see the same frames: blocks are of equal numbers of frames, and each side's
    stream goes on where its last block ended.
    """
    frames = min(reference.frames_for(plan.block_s), candidate.frames_for(plan.block_s))
    pairs: list[tuple[BlockReply, BlockReply]] = []
    while True:
        # Order alternates, so that drift within a pair does not favour one side.
        if len(pairs) % 2:
            second = candidate.block(frames)
            pairs.append((reference.block(frames), second))
        else:
            first = reference.block(frames)
            pairs.append((first, candidate.block(frames)))
        comparison = compare_blocks(
            [b.block for _, b in pairs], [a.block for a, _ in pairs], objective, resolution
        )
        enough = len(pairs) >= plan.min_pairs
        if enough and (comparison.verdict != "not distinguishable" or len(pairs) >= plan.max_pairs):
            break
        if len(pairs) >= 2 and time_left() <= 0:
            break
    return RaceResult(
        tuple(a.block for a, _ in pairs),
        tuple(b.block for _, b in pairs),
        comparison,
        cpu_comparison([b.block for _, b in pairs], [a.block for a, _ in pairs]),
        tuple(a.results for a, _ in pairs),
        tuple(b.results for _, b in pairs),
    )


def compare_blocks(
    candidate: list[Block], reference: list[Block], objective: Objective, resolution: float
) -> Comparison:
    """Compare by the objective: frames per second, or frames per second of latency."""
    return compare(
        [speed(block, objective) for block in candidate],
        [speed(block, objective) for block in reference],
        resolution,
    )


def cpu_comparison(candidate: list[Block], reference: list[Block]) -> Comparison:
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
    pairs: list[tuple[Block, Block]] = []
    while go_on(len(pairs)):
        order = (first, twin) if len(pairs) % 2 == 0 else (twin, first)
        blocks = {runner: runner.block(frames).block for runner in order}
        pairs.append((blocks[first], blocks[twin]))
    speeds = [(speed(a, objective), speed(b, objective)) for a, b in pairs]
    return tuple(block for pair in pairs for block in pair), noise_floor(speeds, AA_LEVEL)


def speed(block: Block, objective: Objective) -> float:
    """A block's speed, larger is better: throughput, or the inverse of its median latency."""
    return block.fps if objective == "throughput" else 1e3 / float(np.median(block.latency_ms))
