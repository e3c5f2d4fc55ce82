"""Watches a training closely, pass by pass. What it finds is never reported as a measured speed.

Lives in a worker process apart from the one that measures (`saccade.profile.training`). Each pass
is one file beside this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from saccade.profile.training_memory import memory_by_category
from saccade.profile.training_operators import OperatorPass, watch_operators
from saccade.profile.training_scaling import scaled_steps
from saccade.profile.training_scan import scan_samples
from saccade.profile.training_syncs import watch_syncs
from saccade.profile.training_timeline import StepTimeline, watch_timeline
from saccade.train.facts import facts
from saccade.train.loading import open_dataset
from saccade.train.profile import SampleFacts, SampleScan, Synchronisation
from saccade.train.subject import TrainingSubject

MIN_STEPS, MAX_STEPS = 1, 30
WARMUP_STEPS = 2
# Reading what the profiler saw takes longer than the steps themselves.
OPERATOR_STEPS = 5
T = TypeVar("T")


class TrainingWatcher(TrainingSubject):
    """Takes the steps that are watched. See `TrainingSubject` for its arguments."""

    def warm_up(self) -> float:
        """Take a few steps; seconds of the last."""
        return self.block(WARMUP_STEPS).step_s[-1]

    def timeline(self, seconds: float, step_s: float, nvtx: bool = False) -> StepTimeline:
        """Spans of the parts of steps and of loader workers, beside what the machine did."""
        return watch_timeline(self._loop, _count(seconds, step_s), nvtx=nvtx)

    def operators(self, seconds: float, step_s: float) -> OperatorPass:
        """Operators of one step, by ``torch.profiler``."""
        steps = min(OPERATOR_STEPS, _count(seconds, step_s))
        return self._on_cached(lambda: watch_operators(self._loop, steps))

    def syncs(self, seconds: float, step_s: float) -> tuple[Synchronisation, ...]:
        """Where the user's code waits for single values."""
        return watch_syncs(self._loop, _count(seconds, step_s))

    def memory(self) -> dict[str, float]:
        """Memory of one step by category, 10^6 bytes."""
        return self._on_cached(lambda: memory_by_category(self._loop))

    def scaled(self, seconds: float, step_s: float) -> dict[int, float]:
        """Batch size → median milliseconds of a step on a batch of that many samples."""
        return self._on_cached(lambda: scaled_steps(self._loop, seconds, step_s))

    def scan(self, seconds: float) -> SampleScan:
        """Which samples cannot be read."""
        dataset, _ = open_dataset(self._job, "train")
        return scan_samples(dataset, seconds, self._config.seed)

    def facts(self) -> SampleFacts:
        """What samples are made of."""
        return facts(self._job, self._config)

    def _on_cached(self, watch: Callable[[], T]) -> T:
        self._loop.use_cached_batch()
        try:
            return watch()
        finally:
            self._loop.use_cached_batch(False)


def _count(seconds: float, step_s: float) -> int:
    return min(MAX_STEPS, max(MIN_STEPS, int(seconds / max(step_s, 1e-6))))
