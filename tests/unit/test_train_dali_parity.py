"""DALI's images are compared with the job's one by one; its pipeline is a fake's here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from torchvision.transforms import v2
from train_images import CROP, job, pair_transforms

from saccade.errors import SpecError
from saccade.train.config import TrainingConfig
from saccade.train.job import TrainingJob
from saccade.train.loaders.dali import DaliLoader, OpenDaliLoader
from saccade.train.loading import open_loader
from saccade.train.transforms.pixel_steps import ResizeTo

Pixels = NDArray[np.uint8]
Spoil = Callable[[int, Pixels], Pixels]


@dataclass
class FakePipe:
    """Does what the pipeline is told to, with OpenCV and PyTorch; colours as brightness alone."""

    source: Iterator[Any]
    spoil: Spoil
    colours: list[Any] = field(default_factory=list)

    def run(self) -> tuple[Any]:
        images = [self._image(*values) for values in zip(*next(self.source), strict=True)]
        batch = np.stack([self.spoil(place, image) for place, image in enumerate(images)])
        return (FakeList(batch),)

    def _image(self, data: Any, first: Any, first_hw: Any, size: Any, *more: Any) -> Pixels:
        second, second_hw, flips, *colours = more
        whole = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        part = ResizeTo(*(int(n) for n in size)).image(_cut(whole, first, first_hw))
        part = _cut(part, second, second_hw)
        part = part[::-1] if flips[0] else part
        part = part[:, ::-1] if flips[1] else part
        self.colours += colours
        factor = colours[0][0] if colours else 1.0
        return np.clip(part * factor, 0, 255).astype(np.uint8)


@dataclass
class FakeList:
    """A list of tensors."""

    batch: Pixels

    def as_array(self) -> Pixels:
        return self.batch


def _cut(pixels: Any, start: Any, shape: Any) -> Any:
    return pixels[start[0] : start[0] + shape[0], start[1] : start[1] + shape[1]]


def training(folder: Path, *steps: Any) -> tuple[TrainingJob, TrainingConfig]:
    transforms = pair_transforms(lambda split: [v2.RandomResizedCrop(CROP), *steps])
    found, config = job(folder, transforms=transforms)
    return found, config.with_loader(backend="dali")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[FakePipe]]:
    """Opens a job's loader over fake pipelines, which it gives."""

    def opening(job_: TrainingJob, config: TrainingConfig, spoil: Spoil) -> list[FakePipe]:
        pipes: list[FakePipe] = []

        def pipeline(self: OpenDaliLoader, source: Iterator[Any]) -> FakePipe:
            pipes.append(FakePipe(source, spoil))
            return pipes[-1]

        monkeypatch.setattr(DaliLoader, "available", staticmethod(lambda: None))
        monkeypatch.setattr(OpenDaliLoader, "_pipeline", pipeline)
        loader = open_loader(job_, config)
        next(loader.batches(0))
        loader.close()
        return pipes

    return opening


def nothing(place: int, pixels: Pixels) -> Pixels:
    return pixels


def one_upside_down(place: int, pixels: Pixels) -> Pixels:
    return pixels[::-1] if place == 1 else pixels


def one_a_little_darker(place: int, pixels: Pixels) -> Pixels:
    """By less than the limit on the mean of the batch, and more than it in one sample."""
    return (np.maximum(pixels, 3) - 3).astype(np.uint8) if place == 1 else pixels


def test_the_same_images_pass(tmp_path: Path, opened: Any) -> None:
    assert opened(*training(tmp_path, v2.RandomHorizontalFlip()), nothing)


@pytest.mark.parametrize("spoil", [one_upside_down, one_a_little_darker])
@pytest.mark.parametrize("jitter", [False, True])
def test_one_other_image_is_found_beside_random_colours_as_well(
    tmp_path: Path, opened: Any, spoil: Spoil, jitter: bool
) -> None:
    steps = [v2.ColorJitter(0.5)] if jitter else []
    with pytest.raises(SpecError, match="another image of sample"):
        opened(*training(tmp_path, *steps), spoil)


def test_colours_stay_while_images_are_compared_and_change_afterwards(
    tmp_path: Path, opened: Any
) -> None:
    compared, used = opened(*training(tmp_path, v2.ColorJitter(0.5)), nothing)
    neutral = np.array([1.0, 1.0, 1.0, 0.0])
    assert all((colours == neutral).all() for colours in compared.colours)
    assert any((colours != neutral).any() for colours in used.colours)
