"""Parts of tiny training jobs, each with something planted that a diagnosis has to find.

`saccade.testing.planted_training.write_job` puts them together to job files.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIDE, CLASSES = 32, 4
SAMPLES = 64
DELAY_S = 0.01
LEAK_BYTES = 500_000


class Model:
    """Makes a small convolutional classifier.

    Args:
        width: channels of its layers.
    """

    def __init__(self, width: int = 16) -> None:
        self._width = width

    def __call__(self) -> Any:
        """The untrained module: ``(N, 3, H, W)`` float32 → ``(N, CLASSES)``."""
        from torch import nn

        width = self._width
        layers: list[Any] = [nn.Conv2d(3, width, 3, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES)]
        return nn.Sequential(*layers, *pooled)


def many_layers() -> Any:
    """A module of many layers with little to do: images of side 8 → ``(N, CLASSES)``."""
    from torch import nn

    layers: list[Any] = [nn.Flatten(), nn.Linear(3 * 8 * 8, 16), nn.ReLU()]
    for _ in range(30):
        layers += [nn.Linear(16, 16), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(16, CLASSES))


class Arrays:
    """Samples of random pixels: ``(SIDE, SIDE, 3)`` uint8 and a class.

    Args:
        count: samples.
        side: of the images, pixels.
    """

    def __init__(self, count: int = SAMPLES, side: int = SIDE) -> None:
        self._count, self._side = count, side

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Any, int]:
        random = np.random.default_rng(index)
        pixels = random.integers(0, 255, (self._side, self._side, 3), np.uint8)
        return pixels, index % CLASSES


def arrays(split: str) -> Arrays:
    """The data set of a healthy job."""
    return Arrays()


def small_arrays(split: str) -> Arrays:
    """Images so small that a step's own cost is all there is."""
    return Arrays(side=8)


def as_tensors(sample: Any) -> tuple[Any, int]:
    """``(3, H, W)`` float32 in 0-1, and the class."""
    import torch

    pixels, label = sample
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div(255), label


def transforms(split: str) -> Callable[[Any], Any]:
    """The transforms of a healthy job."""
    return as_tensors


def loss(output: Any, target: Any) -> Any:
    """Cross-entropy."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(output, target)


def optimizer(model: Any) -> Any:
    """Plain gradient descent."""
    import torch

    return torch.optim.SGD(model.parameters(), lr=1e-3)


def slow_transforms(split: str) -> Callable[[Any], Any]:
    """Transforms that burn CPU time on every sample."""

    def burn(sample: Any) -> tuple[Any, int]:
        _burn()
        return as_tensors(sample)

    return burn


def _burn() -> None:
    end = time.thread_time() + DELAY_S
    while time.thread_time() < end:
        pass


class BlockedReads(Arrays):
    """Samples whose bytes come late: each read blocks in the kernel and takes no CPU time.

    A slow disk cannot be had everywhere, so the bytes come through a pipe, from a thread that
    sleeps before it writes them; a `read` of it looks as one of a disk does.
    """

    _pipe: tuple[int, int] | None = None
    _owner = 0

    def __getitem__(self, index: int) -> tuple[Any, int]:
        os.read(self._waiting_pipe(), 1)
        return super().__getitem__(index)

    def _waiting_pipe(self) -> int:
        if self._pipe is None or self._owner != os.getpid():  # a fork takes no threads along
            self._pipe, self._owner = os.pipe(), os.getpid()
            threading.Thread(target=_write_late, args=(self._pipe[1],), daemon=True).start()
        return self._pipe[0]


def _write_late(end: int) -> None:
    while True:
        time.sleep(DELAY_S)
        os.write(end, b".")


def blocked_reads(split: str) -> BlockedReads:
    """The data set of a job that waits for its disk."""
    return BlockedReads()


class Leaking(Arrays):
    """Samples that are kept for ever, as a list of tensors in a data set often is by mistake."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[bytes] = []

    def __getitem__(self, index: int) -> tuple[Any, int]:
        self._kept.append(os.urandom(1) * LEAK_BYTES)
        return super().__getitem__(index)


def leaking(split: str) -> Leaking:
    """The data set of a job whose loader leaks memory."""
    return Leaking()


class Files:
    """JPEG files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(folder.glob("*.jpg"))

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[Path, int]:
        return self._paths[index], index % CLASSES


class SlowConsole:
    """A stream to print to that burns CPU time on every text, as slow terminals and logs do."""

    def write(self, text: str) -> int:
        """Characters taken, all of them, and kept nowhere."""
        _burn()
        return len(text)


class NanAt:
    """A loss that is not a number in one step and those after it.

    Args:
        step: counted from 0.
    """

    def __init__(self, step: int) -> None:
        self._step, self._calls = step, 0

    def __call__(self, output: Any, target: Any) -> Any:
        """Cross-entropy, as long as it is one."""
        self._calls += 1
        found = loss(output, target)
        return found * float("nan") if self._calls > self._step else found
