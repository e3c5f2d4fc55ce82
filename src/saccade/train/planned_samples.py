"""Samples prepared by plan: parameters are drawn first, and images decoded as they then need."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import DataError
from saccade.train.caching import SampleCache, signature_of
from saccade.train.decoding import Reader, decode_with_opencv, images_in, is_image, opencv_pixels
from saccade.train.image_header import image_header
from saccade.train.order import Ticket
from saccade.train.samples import LoadTimes, Samples, kept_randomness
from saccade.train.scaled_samples import reduced_box
from saccade.train.transforms.parity import array_of, worst
from saccade.train.transforms.pixel_steps import Crop, PixelStep
from saccade.train.transforms.plan import PixelPlan, decode_fraction, plan_of

PROBES = 2
# By how much inputs of a plan may differ from the job's own, of their standard deviation, and
# which share of target values: the last bit of some pixels, no more.
INPUT_TOLERANCE, TARGET_TOLERANCE = 0.01, 0.001


@dataclass(frozen=True)
class Form:
    """What a prepared sample looks like.

    Attributes:
        hwc: height, width and channels of the input.
        target_shape: of one target.
        target_dtype: of a batch of targets.
    """

    hwc: tuple[int, int, int]
    target_shape: tuple[int, ...]
    target_dtype: Any


class PlannedSamples(Samples):
    """Pairs of an image and its target, by plan. Safe in threads: no global generator is used.

    Args:
        dataset: map-style, of ``(image, target)``; each a path or an array, a target also a number.
        plan: what is done to them.
        read: who gets the bytes of files.
        scaled: JPEGs are decoded as small as the drawn crop allows.
        cache: of decoded pairs, whole.
    """

    def __init__(
        self,
        dataset: Any,
        plan: PixelPlan,
        read: Reader,
        scaled: bool = False,
        cache: SampleCache | None = None,
        expect: Callable[[list[Path]], None] | None = None,
    ) -> None:
        super().__init__(dataset, None, cache=cache, expect=expect)
        self.plan, self._read, self._scaled = plan, read, scaled
        self.decode = lambda path: decode_with_opencv(path, read)

    def ready(self, ticket: Ticket, times: LoadTimes) -> tuple[NDArray[np.uint8], Any]:
        """Pixels ``(H, W, C)``, not yet normalized, and the target."""
        if self._scaled and self.cache is None:
            image, target, full_hw, steps = self._as_needed(ticket, times)
        else:
            image, target = _pair(self._kept(ticket.index, times))
            full_hw = image.shape[:2]
            steps = self.plan.drawn(ticket.seed, full_hw)
        began = time.perf_counter()
        pixels = _through(image, full_hw, steps)
        if getattr(target, "ndim", 0) == 2:
            if target.shape != full_hw:
                raise DataError(f"A mask of {target.shape} stands beside an image of {full_hw}.")
            for step in steps:
                target = step.mask(target)
        times.transform_s += time.perf_counter() - began
        return pixels if pixels.ndim == 3 else pixels[..., None], target

    def _kept(self, index: int, times: LoadTimes) -> Any:
        """`raw`, without copying what the cache holds: nothing here writes to it."""
        if self.cache is not None:
            began = time.perf_counter()
            kept = self.cache.get(
                index, lambda: signature_of(images_in(self.dataset[index])), copied=False
            )
            if kept is not None:
                times.read_s += time.perf_counter() - began
                return kept
        return self.raw(index, times)

    def files(self, index: int, times: LoadTimes) -> tuple[Path, Any, bytes | memoryview]:
        """The image file of a sample, its target decoded, and the content of the file."""
        began = time.perf_counter()
        image, target = _pair(self.dataset[index])
        data = self._read(image)
        read = time.perf_counter()
        target = self.opened(target)
        times.read_s += read - began
        times.decode_s += time.perf_counter() - read
        return image, target, data

    def _as_needed(
        self, ticket: Ticket, times: LoadTimes
    ) -> tuple[Any, Any, tuple[int, int], list[PixelStep]]:
        began = time.perf_counter()
        image, target = _pair(self.dataset[ticket.index])
        data = self._read(image) if is_image(image) else None
        read = time.perf_counter()
        header = image_header(data) if data is not None else None
        if data is None or header is None:
            image = self.opened(image)
            full_hw = image.shape[:2]
            steps = self.plan.drawn(ticket.seed, full_hw)
        else:
            full_hw = (header.height, header.width)
            steps = self.plan.drawn(ticket.seed, full_hw)
            fraction = decode_fraction(steps, full_hw) if header.kind == "jpeg" else 1.0
            image = opencv_pixels(image, data, fraction)
        target = self.opened(target)
        times.read_s += read - began
        times.decode_s += time.perf_counter() - read
        return image, target, full_hw, steps


def _through(
    image: NDArray[np.uint8], full_hw: tuple[int, int], steps: list[PixelStep]
) -> NDArray[np.uint8]:
    """An image through its steps; crops are reduced as it was."""
    for place, step in enumerate(steps):
        if place == 0 and isinstance(step, Crop) and image.shape[:2] != full_hw:
            box = (step.top, step.left, step.height, step.width)
            step = Crop(*reduced_box(box, full_hw, image.shape[:2]))
        image = step.image(image)
    return image


def _pair(sample: Any) -> tuple[Any, Any]:
    if isinstance(sample, tuple | list) and len(sample) == 2:
        return sample[0], sample[1]
    raise DataError("A sample is not a pair of an image and its target.")


def planned(
    dataset: Any, transform: Any, read: Reader, seed: int = 0, **settings: Any
) -> tuple[PlannedSamples, Form] | str:
    """Samples by plan and their form, or why there can be none.

    A plan is not believed: on a few samples it has to give what the job's own transforms give.
    """
    plan = plan_of(transform)
    if isinstance(plan, str):
        return plan
    own = Samples(dataset, transform)
    # Compared as decoded whole: decoding at a smaller size differs by more, and knowingly.
    trial = PlannedSamples(dataset, plan, read)
    tickets = _readable(own, seed)
    with kept_randomness():
        found = worst(
            lambda number: own.ready(tickets[number], LoadTimes()),
            lambda number: _finished(trial, tickets[number]),
            range(len(tickets)),
        )
        if isinstance(found, str):
            return found
        if found.mean > INPUT_TOLERANCE or found.targets > TARGET_TOLERANCE:
            return (
                "the plan does not give what the job's transforms give (inputs differ by "
                f"{found.mean:.1%} of their spread, targets in {found.targets:.1%})"
            )
        form = _form(own.ready(tickets[0], LoadTimes()))
    return PlannedSamples(dataset, plan, read, **settings), form


def _readable(samples: Samples, seed: int) -> list[Ticket]:
    found: list[Ticket] = []
    for index in range(len(samples)):
        if len(found) == PROBES or index > PROBES + 20:
            break
        try:
            samples.raw(index, LoadTimes())
        except Exception:  # counted and judged where training meets it
            continue
        found.append(Ticket(0, index, seed + index))
    return found


def _finished(samples: PlannedSamples, ticket: Ticket) -> tuple[Any, Any]:
    import torch

    pixels, target = samples.ready(ticket, LoadTimes())
    batch = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    return samples.plan.normalization(batch)[0], target


def _form(ready: Any) -> Form:
    from torch.utils.data import default_collate

    shape = ready[0].shape
    target = default_collate([ready[1]])
    assert array_of(ready[0]) is not None  # it was compared
    return Form((shape[1], shape[2], shape[0]), tuple(target.shape[1:]), target.dtype)
