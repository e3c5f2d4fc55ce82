"""Two runners in turns, and what the pairs of blocks say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from saccade.measurement import Block
from saccade.optimize.race import Runner
from saccade.pipeline.config import PipelineConfig

RESAMPLES = 4000
SEED = 0

Pair = tuple[Block, Block]


def alternate(first: Runner, second: Runner, frames: int, pairs: int) -> list[Pair]:
    """Blocks of equal numbers of frames in turns; who begins alternates too."""
    found = []
    for index in range(pairs):
        order = (first, second) if index % 2 == 0 else (second, first)
        blocks = {runner: runner.block(frames).block for runner in order}
        found.append((blocks[first], blocks[second]))
    return found


def raced(
    first: PipelineConfig, second: PipelineConfig, source: str, block_s: float, pairs: int
) -> list[Pair]:
    """Both configurations in worker processes of their own, in turns on the same source.

    Blocks are as long as the slower side needs for ``block_s`` seconds, and 40 frames at least.
    """
    baseline = Runner(first, source)
    try:
        best = Runner(second, source)
        try:
            frames = max(40, baseline.frames_for(block_s))
            return alternate(baseline, best, frames, pairs)
        finally:
            best.close()
    finally:
        baseline.close()


def pooled_ratio(
    pairs: Sequence[Pair], statistic: Callable[[NDArray[np.float64]], float]
) -> tuple[float, float, float]:
    """Ratio first/second of a statistic of all latencies, with its bootstrap interval.

    Pairs are resampled whole, because the frames of a block are not independent.
    """
    samples = [(np.asarray(a.latency_ms), np.asarray(b.latency_ms)) for a, b in pairs]

    def ratio(chosen: NDArray[np.int64]) -> float:
        first = np.concatenate([samples[i][0] for i in chosen])
        second = np.concatenate([samples[i][1] for i in chosen])
        return statistic(first) / statistic(second)

    generator = np.random.default_rng(SEED)
    drawn = [ratio(row) for row in generator.integers(0, len(pairs), (RESAMPLES, len(pairs)))]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return ratio(np.arange(len(pairs))), float(low), float(high)


def median(values: Sequence[float]) -> float:
    """The median as a plain float."""
    return float(np.median(np.asarray(values, np.float64)))
