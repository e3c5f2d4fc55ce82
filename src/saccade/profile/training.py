"""Measures where the time of a training goes. Lives in a worker process, like its subject.

Steps that are measured and steps that are watched (`saccade.profile.training_watch`) are taken in
processes of their own: a profiled number is never reported as a measured one.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from saccade.pipeline.allocator import give_back
from saccade.profile.training_memory import memory_by_category
from saccade.statistics import warmup_end
from saccade.train.joining import joined_blocks
from saccade.train.records import LoaderBlock, TrainingBlock
from saccade.train.subject import TrainingSubject

# Steps below which a trend cannot be seen, and after which a warm-up is given up on.
MIN_WARMUP, MAX_WARMUP = 4, 60
MIN_STEPS, MAX_STEPS = 3, 400
MIN_SYNTHETIC = 2
MIN_BATCHES, MAX_BATCHES = 8, 200


@dataclass(frozen=True)
class Measured:
    """What the measuring passes found.

    Attributes:
        warmup: the steps before.
        block: steady steps.
        synthetic: the same on a cached batch.
        loader: the loader alone.
        recompilations: of ``torch.compile`` during ``block``.
        graph_breaks: of ``torch.compile`` since the beginning.
    """

    warmup: TrainingBlock
    block: TrainingBlock
    synthetic: TrainingBlock
    loader: LoaderBlock
    recompilations: int
    graph_breaks: int


class TrainingMeasurer(TrainingSubject):
    """Takes the steps that are measured. See `TrainingSubject` for its arguments."""

    def measure(self, seconds: float, least_steps: int = 0) -> Measured:
        """All measuring passes, in about ``seconds``.

        Slow steps take longer, for each pass has a least number of them.

        Args:
            seconds: of all passes together.
            least_steps: taken at least, warm-up included; a loss that goes wrong later is not seen.

        Raises:
            DataError: the data cannot be read.
        """
        self._forget_compilations()
        warmup = self.warm_up(0.3 * seconds)
        compiled = compilations()
        steps = _count(0.35 * seconds, warmup.step_s[-1], MIN_STEPS, MAX_STEPS)
        block = self.block(max(steps, least_steps - len(warmup.step_s)))
        recompilations = compilations() - compiled
        synthetic = self._synthetic(0.2 * seconds)
        return Measured(
            warmup=warmup,
            block=block,
            synthetic=synthetic,
            loader=self._loader_alone(0.15 * seconds, block),
            recompilations=recompilations,
            graph_breaks=graph_breaks(),
        )

    def memory(self) -> dict[str, float]:
        """Memory of one step by category, 10^6 bytes; a pass that is watched, not measured."""
        return memory_by_category(self._loop)

    def warm_up(self, seconds: float) -> TrainingBlock:
        """Steps until they are stable and what the loader had ready before is used up."""
        began = time.perf_counter()
        ready = self._config.loader.workers * self._config.loader.prefetch
        blocks: list[TrainingBlock] = []
        taken: list[float] = []
        while len(taken) < MAX_WARMUP:
            blocks.append(self.block(max(1, len(taken) // 2)))
            taken += blocks[-1].step_s
            stable = len(taken) >= MIN_WARMUP and warmup_end(taken) < len(taken)
            if stable and len(taken) > ready:
                break
            if len(taken) >= 2 and time.perf_counter() - began > seconds:
                break
        return joined_blocks(blocks)

    def _synthetic(self, seconds: float) -> TrainingBlock:
        """Steps on one cached batch; the first does not count."""
        self._loop.use_cached_batch()
        try:
            first = self.block(1)
            return self.block(_count(seconds, first.step_s[0], MIN_SYNTHETIC, MAX_STEPS))
        finally:
            self._loop.use_cached_batch(False)

    def _loader_alone(self, seconds: float, block: TrainingBlock) -> LoaderBlock:
        workers = max(1, self._config.loader.workers)
        batches = len(block.step_s) * self._config.batch.accumulation
        each_s = block.load.total_s() / workers / max(1, batches)
        # Tens of megabytes that steps have freed would take up what a leaking loader holds.
        give_back()
        return self.loader(_count(seconds, each_s, MIN_BATCHES, MAX_BATCHES))

    def _forget_compilations(self) -> None:
        if self._config.compute.compile:
            from torch._dynamo.utils import counters

            counters.clear()


def _count(seconds: float, each_s: float, least: int, most: int) -> int:
    return min(most, max(least, int(seconds / max(each_s, 1e-6))))


def compilations() -> int:
    """Graphs that ``torch.compile`` made so far; 0 where it is not in use."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return int(dynamo.counters["stats"]["unique_graphs"]) if dynamo is not None else 0


def graph_breaks() -> int:
    """Reasons for which ``torch.compile`` ended a graph within the model."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return len(dynamo.counters["graph_break"]) if dynamo is not None else 0
