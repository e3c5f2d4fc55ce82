"""A training small enough to be carried out many times in a test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from saccade.train.config import BatchSettings, JobReference, TrainingConfig
from saccade.train.job import TrainingJob

SIDE = 8
CLASSES = 4


class Pictures:
    """Random pictures, a class each, made anew from their index."""

    def __init__(self, split: str, count: int = 27) -> None:
        self.count = count if split == "train" else 6

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index >= self.count:
            raise IndexError(index)
        generator = torch.Generator().manual_seed(index)
        return torch.randn(3, SIDE, SIDE, generator=generator), index % CLASSES


def net() -> Any:
    """With running statistics and dropout, which resuming has to get right."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, padding=1),
        torch.nn.BatchNorm2d(6),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.2),
        torch.nn.Flatten(),
        torch.nn.Linear(6 * SIDE * SIDE, CLASSES),
    )


def noisy(split: str) -> Any:
    """Augmentation by noise; none for judging."""
    if split != "train":
        return None
    return lambda sample: (sample[0] + 0.1 * torch.randn(3, SIDE, SIDE), sample[1])


def accuracy(output: Any, target: Any) -> Any:
    return (output.argmax(1) == target).float().mean()


def tiny_job(**changes: Any) -> TrainingJob:
    job = TrainingJob(
        model=net,
        dataset=Pictures,
        loss=torch.nn.functional.cross_entropy,
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=1e-2),
        transforms=noisy,
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5),
        metric=accuracy,
        batch_size=4,
        epochs=3,
    )
    return replace(job, **changes)


def tiny_config(**changes: Any) -> TrainingConfig:
    reference = JobReference("tiny", "python_file", "0" * 64)
    return replace(TrainingConfig(reference, batch=BatchSettings(4)), **changes)


def weights(path: Path) -> dict[str, torch.Tensor]:
    found = torch.load(path, weights_only=True)
    assert isinstance(found, dict)
    return found


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts agree in every bit."""
    return list(first) == list(second) and all(
        torch.equal(first[name], second[name]) for name in first
    )
