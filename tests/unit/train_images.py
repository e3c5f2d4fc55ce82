"""A tiny training job on JPEGs, for tests of how data is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from saccade.train.config import JobReference, TrainingConfig
from saccade.train.job import TrainingJob

COUNT, HW, CROP = 10, (96, 128), 32
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]


def picture(seed: int, hw: tuple[int, int] = HW) -> Image.Image:
    """A smooth picture, as photographs are."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((hw[1], hw[0]), Image.Resampling.BICUBIC)


def mask(seed: int, hw: tuple[int, int] = HW) -> Image.Image:
    """Class ids in large areas."""
    rough = np.random.default_rng(seed).integers(0, 5, (4, 5), dtype=np.uint8)
    return Image.fromarray(rough).resize((hw[1], hw[0]), Image.Resampling.NEAREST)


class Pairs:
    """Paths of images with a label, or with a mask."""

    def __init__(self, folder: Path, masks: bool, count: int = COUNT) -> None:
        self.images = [folder / f"{i:03d}.jpg" for i in range(count)]
        self.masks = [folder / f"{i:03d}.png" for i in range(count)] if masks else None
        for index, path in enumerate(self.images):
            picture(index).save(path, quality=92)
            if self.masks is not None:
                mask(index).save(self.masks[index])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Path, Any]:
        return self.images[index], self.masks[index] if self.masks else index % 4


def chain(augment: list[Any]) -> v2.Compose:
    kinds: dict[Any, Any] = {
        tv_tensors.Image: torch.float32,
        tv_tensors.Mask: torch.int64,
        "others": None,
    }
    return v2.Compose([*augment, v2.ToDtype(kinds, scale=True), v2.Normalize(MEAN, STD)])


def augmentation(split: str) -> list[Any]:
    if split != "train":
        return [v2.Resize((CROP, CROP))]
    return [v2.RandomResizedCrop(CROP, scale=(0.6, 1.0)), v2.RandomHorizontalFlip()]


def pair_transforms(augment: Callable[[str], list[Any]] = augmentation) -> Callable[[str], Any]:
    def transforms(split: str) -> Any:
        composed = chain(augment(split))

        def apply(sample: tuple[Any, Any]) -> tuple[Any, Any]:
            image = tv_tensors.Image(torch.from_numpy(sample[0]).permute(2, 0, 1))
            if not isinstance(sample[1], np.ndarray):
                return composed(image).as_subclass(torch.Tensor), sample[1]
            x, y = composed(image, tv_tensors.Mask(torch.from_numpy(sample[1])))
            return x.as_subclass(torch.Tensor), y.as_subclass(torch.Tensor)

        return apply

    return transforms


def job(folder: Path, masks: bool = False, **functions: Any) -> tuple[TrainingJob, TrainingConfig]:
    """A job on images in ``folder``, and its plain configuration."""
    pairs = Pairs(folder, masks)
    given: dict[str, Any] = {
        "model": lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * CROP * CROP, 4)),
        "dataset": lambda split: pairs,
        "loss": nn.functional.cross_entropy,
        "optimizer": lambda model: torch.optim.SGD(model.parameters(), lr=0.01),
        "transforms": pair_transforms(),
    }
    sha256 = hashlib.sha256(str(folder).encode()).hexdigest()
    config = TrainingConfig(JobReference("job.py", "python_file", sha256)).with_batch(size=4)
    return TrainingJob(**{**given, **functions}), config
