"""What a step costs on so many threads. Lives in a worker process, like its subject."""

from __future__ import annotations

import statistics

from saccade.errors import RuntimeFailure
from saccade.profile.training_scaling import scaled_steps
from saccade.train.records import LoaderBlock
from saccade.train.scaling import Cost
from saccade.train.subject import TrainingSubject

PROBE = "saccade.optimize.training.scaling_probe:ScalingProbe"
WARMUP = 2


class ScalingProbe(TrainingSubject):
    """One process. See `TrainingSubject` for its arguments."""

    def gradients_mb(self) -> float:
        """Of all parameters that are trained, 10^6 bytes."""
        trained = [p for p in self._loop.model.parameters() if p.requires_grad]
        return float(sum(p.numel() * p.element_size() for p in trained)) / 1e6

    def cost(self, threads: int | None) -> Cost:
        """Of a step on a cached batch, told apart by taking twice as many samples."""
        self._use(threads)
        loop = self._loop
        loop.use_cached_batch()
        try:
            size, passes = loop.config.batch.size, loop.config.batch.accumulation
            try:
                times = scaled_steps(loop, 0.0, 1.0)
            except RuntimeFailure:  # batches of another size cannot be made of this one
                return Cost(0.0, self._step_s() / (size * passes))
        finally:
            loop.use_cached_batch(False)
        (small, first), (large, second) = sorted(times.items())
        each = max(0.0, (second - first) / 1e3 / (large - small) / passes)
        return Cost(max(0.0, first / 1e3 - each * small * passes), each)

    def _step_s(self) -> float:
        block = self.block(WARMUP + 3)
        return min(block.step_s[WARMUP:])

    def apart_s(self, threads: int | None, steps: int) -> float:
        """Seconds of forward and backward passes with nothing beside them."""
        self._use(threads)
        loop = self._loop
        loop.use_cached_batch()
        try:
            for _ in range(WARMUP + steps):
                loop.rehearse()
            return statistics.median(loop.clock.read()[0][WARMUP:])
        finally:
            loop.use_cached_batch(False)

    def loaded(self, batches: int) -> LoaderBlock:
        """The loader alone."""
        return self.loader(batches)

    @staticmethod
    def _use(threads: int | None) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
