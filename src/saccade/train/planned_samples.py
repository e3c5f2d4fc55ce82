"""Samples prepared by plan: parameters are drawn first, and images decoded as they then need."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import DataError
from saccade.train.caching import SampleCache
from saccade.train.decoding import Reader, decode_with_opencv, decoded, is_image, opencv_pixels
from saccade.train.image_header import image_header
from saccade.train.order import Ticket
from saccade.train.samples import LoadTimes, Samples, kept_randomness
from saccade.train.scaled_samples import decoded_at_need, reduced_box
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
        scaled: JPEGs are decoded as small as the drawn crop allows; where decoded samples are
            kept, as small as the smallest crop allows.
        cache: of decoded pairs.
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
        self.decode = partial(decode_with_opencv, read=read)
        self.copied = False  # no step writes to what it is given

    def opened(self, sample: Any) -> Any:
        """A sample of the data set, decoded: reduced where it is and where it is to be kept."""
        if self._scaled:
            return decoded_at_need(sample, self.plan.steps, self._read)
        return super().opened(sample)

    def ready(self, ticket: Ticket, times: LoadTimes) -> tuple[NDArray[np.uint8], Any]:
        """Pixels ``(H, W, C)``, not yet normalized, and the target."""
        if self._scaled and self.cache is None:
            image, target, full_hw, steps = self._as_needed(ticket, times)
        else:
            kept = self.raw(ticket.index, times)
            sample, size = kept if self._scaled else (kept, None)
            image, target = _pair(sample)
            full_hw = size or image.shape[:2]
            steps = self.plan.drawn(ticket.seed, full_hw)
        began = time.perf_counter()
        pixels = image
        for step in _fitted(steps, image, full_hw):
            pixels = step.image(pixels)
        if getattr(target, "ndim", 0) == 2:
            if target.shape not in (full_hw, image.shape[:2]):
                raise DataError(f"A mask of {target.shape} stands beside an image of {full_hw}.")
            for step in _fitted(steps, target, full_hw):
                target = step.mask(target)
        times.transform_s += time.perf_counter() - began
        return pixels if pixels.ndim == 3 else pixels[..., None], target

    def files(self, index: int, times: LoadTimes) -> tuple[Path, Any, bytes | memoryview]:
        """The image file of a sample, its target decoded, and the content of the file."""
        began = time.perf_counter()
        image, target = _pair(self.dataset[index])
        data = self._read(image)
        read = time.perf_counter()
        target = decoded(target, self.decode, rgb=False)
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
            image = decoded(image, self.decode)
            full_hw = image.shape[:2]
            steps = self.plan.drawn(ticket.seed, full_hw)
        else:
            full_hw = (header.height, header.width)
            steps = self.plan.drawn(ticket.seed, full_hw)
            fraction = decode_fraction(steps, full_hw) if header.kind == "jpeg" else 1.0
            image = opencv_pixels(image, data, fraction)
        target = decoded(target, self.decode, rgb=False)
        times.read_s += read - began
        times.decode_s += time.perf_counter() - read
        return image, target, full_hw, steps


def _fitted(
    steps: list[PixelStep], pixels: NDArray[np.uint8], full_hw: tuple[int, int]
) -> list[PixelStep]:
    """Steps that were drawn for the whole image, for one that may be reduced."""
    hw = pixels.shape[:2]
    if hw == full_hw or not steps or not isinstance(steps[0], Crop):
        return steps
    first = steps[0]
    box = (first.top, first.left, first.height, first.width)
    return [Crop(*reduced_box(box, full_hw, (hw[0], hw[1]))), *steps[1:]]


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
    tickets = readable_tickets(own, seed)
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


def readable_tickets(samples: Samples, seed: int) -> list[Ticket]:
    """Tickets of the first few samples that can be read, to try something on."""
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
