"""U-Net on CamVid as a plain training script has it: eager fp32, decoding each time, no workers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2

DATA = Path(os.environ.get("SACCADE_DATA", Path(__file__).parents[3] / "shared" / "data"))
CLASSES, VOID = 11, 11
MEAN, STD = (0.41, 0.42, 0.43), (0.30, 0.30, 0.30)
CROP = 256

batch_size = 8
epochs = 20


class Block(nn.Sequential):
    """Two 3x3 convolutions with batch normalization."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(
            nn.Conv2d(inside, outside, 3, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
            nn.Conv2d(outside, outside, 3, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """Four levels, about a million parameters."""

    def __init__(self, widths: tuple[int, ...] = (24, 48, 96, 192)) -> None:
        super().__init__()
        self.down, self.up, self.mix = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.pool = nn.MaxPool2d(2)
        last = 3
        for width in widths:
            self.down.append(Block(last, width))
            last = width
        for width in reversed(widths[:-1]):
            self.up.append(nn.ConvTranspose2d(last, width, 2, 2))
            self.mix.append(Block(2 * width, width))
            last = width
        self.head = nn.Conv2d(last, CLASSES, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        skips = []
        for level, block in enumerate(self.down):
            image = block(image if level == 0 else self.pool(image))
            skips.append(image)
        skips.pop()
        for up, mix in zip(self.up, self.mix, strict=True):
            image = mix(torch.cat([skips.pop(), up(image)], 1))
        return self.head(image)


class CamVid:
    """Pairs of image and mask files."""

    def __init__(self, split: str) -> None:
        self.images = sorted((DATA / "camvid" / split).glob("*.png"))
        self.masks = sorted((DATA / "camvid" / f"{split}annot").glob("*.png"))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Path, Path]:
        return self.images[index], self.masks[index]


def model() -> nn.Module:
    return UNet()


def dataset(split: str) -> CamVid:
    return CamVid(split)


def transforms(split: str) -> Callable[[Any], Any]:
    augment: list[Any] = [v2.CenterCrop(CROP)]
    if split == "train":
        augment = [
            v2.RandomResizedCrop(CROP, scale=(0.4, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.3, 0.3, 0.3),
        ]
    return v2.Compose(
        [
            as_tensors,
            *augment,
            v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64}, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )


def as_tensors(sample: Any) -> tuple[torch.Tensor, torch.Tensor]:
    image, mask = sample
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)
    return tv_tensors.Image(pixels), tv_tensors.Mask(torch.from_numpy(mask.copy()))


def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(output, target, ignore_index=VOID)


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-3)


def metric(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    judged = target != VOID
    return (output.argmax(1)[judged] == target[judged]).float().mean()
