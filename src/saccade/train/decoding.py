"""Image files within a sample become arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
Decoder = Callable[[Path], NDArray[np.uint8]]


def is_image(value: Any) -> bool:
    """Whether a part of a sample is the path of an image."""
    return isinstance(value, Path) and value.suffix.lower() in IMAGE_SUFFIXES


def images_in(sample: Any) -> list[Path]:
    """The image files of a sample, in order."""
    return [value for value in _parts(sample) if is_image(value)]


def decoded(sample: Any, decode: Decoder) -> Any:
    """The same sample with its image files decoded; anything else stays what it is."""
    if is_image(sample):
        return decode(sample)
    if isinstance(sample, tuple):
        return tuple(decode(value) if is_image(value) else value for value in sample)
    if isinstance(sample, dict):
        return {k: decode(value) if is_image(value) else value for k, value in sample.items()}
    return sample


def decode_with_pillow(path: Path) -> NDArray[np.uint8]:
    """Decode as most training scripts do: ``(H, W, 3)`` RGB, or ``(H, W)`` of indices and greys.

    Raises:
        DataError: the file is missing, truncated or no image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if image.mode in ("P", "L", "1"):
                return np.asarray(image, np.uint8)
            return np.asarray(image.convert("RGB"), np.uint8)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise DataError(f"'{path}' cannot be decoded: {error}") from error


def _parts(sample: Any) -> list[Any]:
    if isinstance(sample, tuple):
        return list(sample)
    if isinstance(sample, dict):
        return list(sample.values())
    return [sample]
