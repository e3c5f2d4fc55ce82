"""How large a picture the transforms need: what decoding at a smaller size must not fall below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from saccade.train.transforms.chain import step_name

# What JPEG decoders can reduce by, from the largest reduction to none.
FRACTIONS = (0.125, 0.25, 0.5, 1.0)
# These look at pixels one by one or mirror them: they give the same at any size.
SIZELESS = frozenset(
    {
        "ToImage", "ToPILImage", "PILToTensor", "ToTensor", "ToDtype", "ConvertImageDtype",
        "RandomHorizontalFlip", "RandomVerticalFlip", "HorizontalFlip", "VerticalFlip",
        "ColorJitter", "RandomGrayscale", "ToGray", "Normalize", "RGB", "Identity", "ToPureTensor",
        "RandomBrightnessContrast", "HueSaturationValue",
    }
)  # fmt: skip


def source_fraction(steps: Sequence[Any], hw: tuple[int, int]) -> float:
    """By how much a picture of ``hw`` may be reduced, 1/8 to 1, and nothing is enlarged by it.

    The first step that changes the size decides: a crop of random size must be no smaller than
    what it is resized to even when it is as small as it can be.
    """
    least = 1.0
    for step in steps:
        name = step_name(step)
        if name in SIZELESS:
            continue
        need = NEEDS.get(name)
        least = need(step, hw) if need is not None else 1.0
        break
    return next((fraction for fraction in FRACTIONS if fraction >= min(least, 1.0)), 1.0)


def _random_resized_crop(step: Any, hw: tuple[int, int]) -> float:
    height, width = _pair(step.size)
    low, high = step.ratio
    area = step.scale[0] * hw[0] * hw[1]
    # The smallest crop is at its lowest where it is widest, and at its narrowest where tallest.
    lowest, narrowest = math.sqrt(area / high), math.sqrt(area * low)
    return max(height / max(lowest, 1.0), width / max(narrowest, 1.0))


def _resize(step: Any, hw: tuple[int, int]) -> float:
    size = getattr(step, "size", None)
    if size is None:  # albumentations names them
        size = (getattr(step, "height", hw[0]), getattr(step, "width", hw[1]))
    if getattr(step, "max_size", None) is not None:
        return 1.0
    sizes = [size] if isinstance(size, int) else list(size)
    if len(sizes) == 1:
        return float(sizes[0]) / min(hw)
    return max(sizes[0] / hw[0], sizes[1] / hw[1])


def _smallest_side(step: Any, hw: tuple[int, int]) -> float:
    size = step.max_size
    return float(size) / min(hw) if isinstance(size, int) else 1.0


NEEDS = {
    "RandomResizedCrop": _random_resized_crop,
    "Resize": _resize,
    "SmallestMaxSize": _smallest_side,
}


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[-1]))
