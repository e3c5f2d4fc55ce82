"""One of several processes that train together, as it is measured.

`saccade.optimize.training.group.WorkerGroup` starts one per rank and calls all at once.
"""

from __future__ import annotations

import time
from dataclasses import replace

from saccade.train.config import TrainingConfig
from saccade.train.distributed import join, leave
from saccade.train.records import LossCurve, TrainingBlock
from saccade.train.subject import TrainingSubject

RANKED = "saccade.train.ranked:RankedSubject"
WARMUP_ROUNDS, ROUNDS = 3, 10


class RankedSubject(TrainingSubject):
    """One rank. See `TrainingSubject` for its arguments and methods."""

    def __init__(self, config: TrainingConfig, steps: int | None = None) -> None:
        join(config)
        super().__init__(config, steps)

    def block(self, steps: int) -> TrainingBlock:
        """Take steps with the others; losses are the means over all ranks."""
        block = super().block(steps)
        return replace(block, losses=self._averaged(block.losses))

    def curve(self, seed: int, steps: int, judge: bool = True) -> LossCurve:
        """Train from a seed; the first rank judges, the model being the same on all."""
        curve = super().curve(seed, steps, judge=judge)
        return replace(curve, losses=curve.block.losses)

    def allreduce(self, megabytes: tuple[float, ...]) -> dict[float, float]:
        """Seconds that averaging takes, by message size in 10^6 bytes."""
        import torch
        from torch import distributed

        found = {}
        for size in megabytes:
            tensor = torch.ones(int(size * 1e6 / 4), device=self._config.compute.device)
            for round_ in range(WARMUP_ROUNDS + ROUNDS):
                if round_ == WARMUP_ROUNDS:
                    distributed.barrier()
                    began = time.perf_counter()
                distributed.all_reduce(tensor)
            distributed.barrier()
            found[size] = (time.perf_counter() - began) / ROUNDS
        return found

    def finish(self) -> None:
        """Leave the others."""
        leave()

    def _averaged(self, losses: tuple[float, ...]) -> tuple[float, ...]:
        import torch
        from torch import distributed

        found = torch.tensor(losses, dtype=torch.float64)
        device = "cpu" if not self._config.compute.device.startswith("cuda") else "cuda"
        found = found.to(device)
        distributed.all_reduce(found)
        return tuple((found / distributed.get_world_size()).tolist())
