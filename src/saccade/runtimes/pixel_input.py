"""Pixels to the values that a model takes, for libraries whose graphs do not do it themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saccade.models.description import Preprocessing
from saccade.pipeline.preprocess import affine


def normalized(pixels: NDArray[np.uint8], pre: Preprocessing) -> NDArray[np.float32]:
    """``(1, H, W, 3)`` float32 of ``(1, H, W, 3)`` uint8, in the model's channel order."""
    factor, offset = affine(pre)
    values = np.multiply(pixels, factor, dtype=np.float32)
    values += offset
    return values


def to_planes(pixels: NDArray[np.uint8], pre: Preprocessing) -> NDArray[np.float32]:
    """``(1, 3, H, W)`` float32 of ``(1, H, W, 3)`` uint8, normalized plane by plane."""
    factor, offset = affine(pre)
    _, height, width, _ = pixels.shape
    planes = np.empty((1, 3, height, width), np.float32)
    for channel in range(3):
        target = planes[0, channel]
        np.multiply(pixels[0, ..., channel], factor[channel], out=target)
        target += offset[channel]
    return planes


def quantized_table(
    pre: Preprocessing, scale: float, zero_point: int, dtype: type
) -> NDArray[np.generic]:
    """What every pixel value becomes in a quantized input, ``(3, 256)`` by channel and value.

    Args:
        pre: normalization of the model.
        scale: size of a step of the input tensor.
        zero_point: the step that stands for zero.
        dtype: ``np.int8`` or ``np.uint8``.
    """
    factor, offset = affine(pre)
    values = np.arange(256, dtype=np.float32) * factor[:, None] + offset[:, None]
    return to_steps(values, scale, zero_point, dtype)


def to_steps(
    values: NDArray[np.float32], scale: float, zero_point: int, dtype: type
) -> NDArray[np.generic]:
    """Float values as steps of a quantized tensor, rounded and held within its type."""
    limits = np.iinfo(dtype)
    steps = np.rint(values / np.float32(scale)) + zero_point
    held: NDArray[np.generic] = np.clip(steps, limits.min, limits.max).astype(dtype)
    return held
