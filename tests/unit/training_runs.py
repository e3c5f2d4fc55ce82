"""Whole trainings of the tiny job in a run folder, some of which fail on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny_training import tiny_config, tiny_job

from saccade.train.checkpoint import Checkpoints
from saccade.train.run_options import RunOptions
from saccade.train.running import CHECKPOINTS, TrainingRun


def trained(folder: Path, options: RunOptions | None = None, **changes: Any) -> TrainingRun:
    job = tiny_job(**{k: v for k, v in changes.items() if k != "config"})
    run = TrainingRun(job, changes.get("config", tiny_config()), job.epochs, folder, options)
    run.run()
    return run


def last_weights(folder: Path) -> dict[str, torch.Tensor]:
    found = Checkpoints(folder / CHECKPOINTS).newest()
    assert found.content is not None
    state: dict[str, torch.Tensor] = found.content["loop"]["model"]
    return state


class FailingAt:
    """A loss that fails, or is NaN, whenever it is called for one batch of one epoch."""

    def __init__(self, step: int, failure: Exception | None = None, times: int = 10**6) -> None:
        self.step, self.failure, self.times = step, failure, times
        self.loop: Any = None

    def __call__(self, output: Any, target: Any) -> Any:
        found = torch.nn.functional.cross_entropy(output, target)
        if not output.requires_grad or self.run.loop.step_number != self.step or not self.times:
            return found
        self.times -= 1
        if self.failure is not None:
            raise self.failure
        return found * float("nan")

    def train(self, folder: Path, config: Any = None, **options: Any) -> TrainingRun:
        job = tiny_job(loss=self)
        self.run = TrainingRun(
            job, config or tiny_config(), job.epochs, folder, RunOptions(**options)
        )
        self.run.run()
        return self.run
