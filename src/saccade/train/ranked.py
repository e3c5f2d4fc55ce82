"""One of several processes that train together, as it is measured.

`saccade.optimize.training.group.WorkerGroup` starts one per rank and calls all at once.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from saccade.train.agreement import ranks_of
from saccade.train.config import TrainingConfig
from saccade.train.distributed import join
from saccade.train.records import LossCurve, TrainingBlock
from saccade.train.subject import TrainingSubject

RANKED = "saccade.train.ranked:RankedSubject"
WARMUP_ROUNDS, ROUNDS = 3, 10


class RankedSubject(TrainingSubject):
    """One rank. See `TrainingSubject` for its arguments and methods; `open` comes first."""

    def __init__(self, config: TrainingConfig, steps: int | None = None) -> None:
        self._config, self._steps = config, steps

    def open(self) -> None:
        """Join the others and open the job. Apart from making it, so that this can be ended.

        Raises:
            RuntimeFailure: the others cannot be reached.
        """
        join(self._config)
        self._ranks = ranks_of(self._config)
        super().__init__(self._config, self._steps)

    def block(self, steps: int) -> TrainingBlock:
        """Take steps with the others; losses are the means over all ranks."""
        block = super().block(steps)
        return replace(block, losses=tuple(self._ranks.means(block.losses)))

    def apart(self, steps: int) -> TrainingBlock:
        """Forward and backward passes beside the others', without exchanging gradients.

        On a cached batch; what computing takes here, contention included.
        No optimizer step follows, so that replicas stay alike; their gradients are dropped.
        """
        loop = self._loop
        loop.use_cached_batch()
        try:
            self._ranks.any([False])
            loop.clock.read()
            for _ in range(steps):
                loop.rehearse()
            step_s, part_s = loop.clock.read()
        finally:
            loop.use_cached_batch(False)
        samples = steps * loop.config.batch.effective
        return TrainingBlock(step_s, part_s, (), samples, 0.0, 0.0, 0.0)

    def curve(
        self,
        seed: int,
        steps: int,
        judge: bool = True,
        judgements: int = 1,
        part: int | None = None,
    ) -> LossCurve:
        """Train from a seed; every rank judges, the model being the same on all."""
        curve = super().curve(seed, steps, judge, judgements, part)
        return replace(curve, losses=curve.block.losses)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of the loop; on shards only the first rank has all of it."""
        return self._loop.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from the first rank's `state`."""
        self._loop.restore(state)

    def allreduce(self, megabytes: tuple[float, ...]) -> dict[float, float]:
        """Seconds that averaging takes, by message size in 10^6 bytes."""
        return {size: self._allreduce_s(size) for size in megabytes}

    def _allreduce_s(self, megabytes: float) -> float:
        """The mean of several after some to warm up."""
        import torch
        from torch import distributed

        cuda = self._config.compute.device.startswith("cuda")
        tensor = torch.ones(max(1, int(megabytes * 1e6 / 4)), device="cuda" if cuda else "cpu")
        for _ in range(WARMUP_ROUNDS):
            distributed.all_reduce(tensor)
        _finished(cuda)
        began = time.perf_counter()
        for _ in range(ROUNDS):
            distributed.all_reduce(tensor)
        _finished(cuda)
        return (time.perf_counter() - began) / ROUNDS


def _finished(cuda: bool) -> None:
    """Wait until all processes have done what they were told."""
    import torch
    from torch import distributed

    if cuda:
        torch.cuda.synchronize()
    distributed.barrier()
