"""A training job on pictures that it draws itself: which shape is in the picture.

    pip install -e '.[train]'
    saccade train profile examples/training_job.py      # where does a step's time go
    saccade train optimize examples/training_job.py --goal 'loss_drift<=0.05' --budget 3m \
        --out runs/shapes
    saccade train run runs/shapes --epochs 3            # the whole training, as it was optimized

`saccade train init` writes such a file for your own data. saccade needs `model`, `dataset`, `loss`
and `optimizer`, and takes `transforms`, `metric` and the others where they are.
"""

from __future__ import annotations

import numpy as np
import torch

SIDE = 64  # of the pictures, in pixels
PICTURES = {"train": 256, "val": 64}
SHAPES = ("disc", "square", "cross")

batch_size = 16
epochs = 3
workers = 1  # processes that draw pictures


class Shapes(torch.utils.data.Dataset):
    """Pictures ``(H, W, 3)`` uint8 with the number of their shape, the same at every call."""

    def __init__(self, split: str) -> None:
        self.length = PICTURES[split]
        self.first = 0 if split == "train" else PICTURES["train"]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        random = np.random.default_rng(self.first + index)
        shape = int(random.integers(len(SHAPES)))
        picture = random.integers(0, 80, (SIDE, SIDE, 3), np.uint8)
        x, y = random.integers(SIDE // 4, 3 * SIDE // 4, 2)
        rows, columns = np.abs(np.mgrid[:SIDE, :SIDE] - np.array([y, x])[:, None, None])
        size = SIDE // 8
        inside = (
            rows**2 + columns**2 < size**2,
            np.maximum(rows, columns) < size,
            (np.minimum(rows, columns) < size // 3) & (np.maximum(rows, columns) < size),
        )[shape]
        picture[inside] = random.integers(120, 255, 3)
        return picture, shape


def dataset(split: str) -> Shapes:
    """Samples of "train" or "val"."""
    return Shapes(split)


def transforms(split: str):
    """From a sample to what the model gets, and its target."""
    return to_tensor


def to_tensor(sample: tuple[np.ndarray, int]) -> tuple[torch.Tensor, int]:
    """Channels first, values from 0 to 1. A function of the file, so that workers can have it."""
    picture, shape = sample
    return torch.from_numpy(picture).permute(2, 0, 1).float() / 255, shape


def model() -> torch.nn.Module:
    """The untrained model."""
    layers: list[torch.nn.Module] = []
    for given, made in ((3, 16), (16, 32), (32, 64)):
        layers += [
            torch.nn.Conv2d(given, made, 3, 2, 1, bias=False),
            torch.nn.BatchNorm2d(made),
            torch.nn.ReLU(),
        ]
    pool = (torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(64, len(SHAPES)))
    return torch.nn.Sequential(*layers, *pool)


def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """One number to be made small; ``output`` is what the model returned."""
    return torch.nn.functional.cross_entropy(output, target)


def optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
    """Over the model's parameters."""
    return torch.optim.AdamW(model.parameters(), lr=1e-3)


def metric(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Top-1 accuracy on the "val" split; larger is better."""
    return (output.argmax(1) == target).float().mean()
