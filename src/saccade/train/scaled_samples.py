"""Samples whose JPEGs are decoded no larger than the transforms need."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from saccade.errors import DataError
from saccade.train.caching import SampleCache
from saccade.train.decoding import Pixels, Reader, decoded, is_image, opencv_pixels
from saccade.train.image_header import image_header
from saccade.train.samples import Samples
from saccade.train.transforms.chain import Chain, step_name
from saccade.train.transforms.source_size import source_fraction


class Scaled(NamedTuple):
    """A sample with its images reduced, and the size they would have had, None where whole."""

    sample: Any
    full_hw: tuple[int, int] | None


class ScaledSamples(Samples):
    """`Samples` that decodes at 1/2, 1/4 or 1/8 where nothing is enlarged by it.

    All images of a sample are reduced alike, a mask by taking every second, fourth or eighth
    pixel, so that they go on agreeing. Random crops of torchvision are drawn as of the whole image
    and then reduced, so that each ticket sees the same part of it as without this.

    Args:
        dataset: map-style.
        chain: the job's transforms.
        read: who gets the bytes of files.
    """

    def __init__(
        self,
        dataset: Any,
        chain: Chain,
        read: Reader,
        cache: SampleCache | None = None,
        **settings: Any,
    ) -> None:
        steps = [full_size_crop(step) for step in chain.steps]
        self._crops = [step for step in steps if hasattr(step, "full_hw")]
        super().__init__(dataset, chain.rebuilt(steps), cache=cache, **settings)
        self._steps, self._read = chain.steps, read

    def opened(self, sample: Any) -> Scaled:
        """A sample of the data set, reduced."""
        return decoded_at_need(sample, self._steps, self._read)

    def transformed(self, sample: Scaled) -> Any:
        """Transform, with crops told how large the image was."""
        for crop in self._crops:
            crop.full_hw = sample.full_hw
        return super().transformed(sample.sample)


def decoded_at_need(sample: Any, steps: Sequence[Any], read: Reader) -> Scaled:
    """A sample with its images decoded no larger than these transforms need.

    Raises:
        DataError: an image cannot be decoded, or is not of the size of the one beside it.
    """
    fraction, full_hw = 1.0, None
    for part in sample if isinstance(sample, tuple) else (sample,):
        header = image_header(read(part)) if is_image(part) else None
        if header is not None and header.kind == "jpeg":
            full_hw = (header.height, header.width)
            fraction = source_fraction(steps, full_hw)
            break
    reduced = partial(_reduced, read=read, fraction=fraction, full_hw=full_hw)
    return Scaled(decoded(sample, reduced), full_hw)


def _reduced(
    path: Path, rgb: bool, read: Reader, fraction: float, full_hw: tuple[int, int] | None
) -> Pixels:
    pixels = opencv_pixels(path, read(path), fraction, rgb)
    if fraction == 1.0 or full_hw is None:
        return pixels
    wanted = (math.ceil(full_hw[0] * fraction), math.ceil(full_hw[1] * fraction))
    if pixels.shape[:2] == wanted:
        return pixels
    if pixels.shape[:2] != full_hw:
        raise DataError(
            f"'{path}' has {pixels.shape[1]}x{pixels.shape[0]} pixels, the image beside it "
            f"{full_hw[1]}x{full_hw[0]}. Images of a sample have to be of one size."
        )
    return _thinned(pixels, wanted)


def _thinned(pixels: Pixels, wanted: tuple[int, int]) -> Pixels:
    """The pixels nearest to the middle of each that is left; nothing is mixed."""
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
        for old, new in zip(pixels.shape[:2], wanted, strict=True)
    )
    return np.ascontiguousarray(pixels[np.ix_(rows, columns)])


def full_size_crop(step: Any) -> Any:
    """Torchvision's ``RandomResizedCrop`` that draws as of ``full_hw``; other steps as they are."""
    if step_name(step) != "RandomResizedCrop" or "torchvision" not in type(step).__module__:
        return step
    made = copy.copy(step)
    made.__class__ = _drawn_at_full_size(type(step))
    made.full_hw = None
    return made


def _drawn_at_full_size(kind: Any) -> Any:
    import torch

    def stand_in(full_hw: tuple[int, int]) -> Any:
        return torch.empty((3, *full_hw), device="meta")

    class RandomResizedCrop(kind):  # type: ignore[misc]
        """Draws for the whole image, crops the reduced one."""

        def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
            """Of the v2 transform."""
            if self.full_hw is None:
                found: dict[str, Any] = super().make_params(flat_inputs)
                return found
            drawn = super().make_params([stand_in(self.full_hw)])
            box = (drawn["top"], drawn["left"], drawn["height"], drawn["width"])
            top, left, height, width = reduced_box(box, self.full_hw, _size(flat_inputs))
            return {"top": top, "left": left, "height": height, "width": width}

        def get_params(self, image: Any, scale: Any, ratio: Any) -> tuple[int, int, int, int]:
            """Of the first generation of transforms."""
            if self.full_hw is None:
                found: tuple[int, int, int, int] = kind.get_params(image, scale, ratio)
                return found
            box = kind.get_params(stand_in(self.full_hw), scale, ratio)
            return reduced_box(box, self.full_hw, _size([image]))

    return RandomResizedCrop


def reduced_box(
    box: tuple[int, int, int, int], full_hw: tuple[int, int], hw: tuple[int, int]
) -> tuple[int, int, int, int]:
    """``(top, left, height, width)`` of the whole image in the reduced one, in whole pixels."""
    top, left, height, width = box
    y, x = hw[0] / full_hw[0], hw[1] / full_hw[1]
    up, first = min(round(top * y), hw[0] - 1), min(round(left * x), hw[1] - 1)
    down = min(max(round((top + height) * y), up + 1), hw[0])
    last = min(max(round((left + width) * x), first + 1), hw[1])
    return up, first, down - up, last - first


def _size(inputs: Sequence[Any]) -> tuple[int, int]:
    first = inputs[0]
    if hasattr(first, "shape"):
        return int(first.shape[-2]), int(first.shape[-1])
    return int(first.height), int(first.width)  # a Pillow image
