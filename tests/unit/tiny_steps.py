"""A tiny training that runs in this process: a convolutional net on bright and dark noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from saccade.train.config import JobReference, TrainingConfig
from saccade.train.job import TrainingJob
from saccade.train.loop import TrainingLoop

CONFIG = TrainingConfig(JobReference("tiny", "python_file", "0")).with_batch(size=8)


class Noise:
    """Pictures ``(3, 16, 16)`` of noise, brighter where the class is higher."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[Any, int]:
        random = torch.Generator().manual_seed(index)
        return torch.rand(3, 16, 16, generator=random) + index % 4, index % 4


def net(norm: bool = True) -> nn.Module:
    """Three blocks, the second of them a list's item."""
    between = nn.BatchNorm2d(8) if norm else nn.Identity()
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=not norm), between, nn.ReLU()),
        nn.Sequential(nn.Conv2d(8, 16, 3, padding=1, stride=2), nn.ReLU()),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)),
    )


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-2)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=5e-2, momentum=0.9)


def job(
    model: Callable[[], nn.Module] = net,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = adam,
) -> TrainingJob:
    return TrainingJob(
        model=model,
        dataset=lambda split: Noise(),
        loss=nn.functional.cross_entropy,
        optimizer=optimizer,
    )


def losses(config: TrainingConfig, steps: int = 4, job: TrainingJob | None = None) -> list[float]:
    """The loss curve of a few steps."""
    return [float(loss) for loss in taken(config, steps, job)[1]]


def taken(
    config: TrainingConfig, steps: int = 4, job_: TrainingJob | None = None
) -> tuple[TrainingLoop, list[Any]]:
    """A loop that has taken a few steps, and their losses."""
    loop = TrainingLoop(job_ or job(), config, steps=steps)
    try:
        return loop, [loop.step() for _ in range(steps)]
    finally:
        loop.close()
