"""Letterbox geometry: how a frame lies in the model's input, and how boxes get back. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.models.description import Anchor


@dataclass(frozen=True)
class Letterbox:
    """Where a scaled frame lies in the input.

    Attributes:
        input_hw: the model's input, pixels.
        frame_hw: the original frame, pixels.
        scaled_hw: the frame after scaling, pixels.
        top: rows of border above it.
        left: columns of border left of it.
        scale: scaled over original size.
    """

    input_hw: tuple[int, int]
    frame_hw: tuple[int, int]
    scaled_hw: tuple[int, int]
    top: int
    left: int
    scale: float

    def to_frame(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map ``(N, 4)`` xyxy boxes from input to frame pixels, clipped to the frame."""
        shifted = boxes - np.array([self.left, self.top] * 2, np.float32)
        height, width = self.frame_hw
        limit = np.array([width, height] * 2, np.float32)
        return np.clip(shifted / np.float32(self.scale), 0, limit).astype(np.float32)


def letterbox(
    frame_hw: tuple[int, int],
    input_size: int,
    stride: int,
    shape: str,
    anchor: Anchor,
) -> Letterbox:
    """Scale a frame so that its longer side is ``input_size`` and pad it.

    ``shape="square"`` pads to ``input_size`` on both sides, ``"rect"`` to the next multiple of
    ``stride``, which is the least that a model with that stride accepts.
    """
    height, width = frame_hw
    scale = min(input_size / height, input_size / width)
    scaled = (max(1, round(height * scale)), max(1, round(width * scale)))
    if shape == "square":
        target = (input_size, input_size)
    else:
        target = (_ceil(scaled[0], stride), _ceil(scaled[1], stride))
    if anchor == "center":
        # Half a pixel goes to the bottom right, as in the letterbox of the YOLO family.
        top = round((target[0] - scaled[0]) / 2 - 0.1)
        left = round((target[1] - scaled[1]) / 2 - 0.1)
    else:
        top = left = 0
    return Letterbox(target, frame_hw, scaled, top, left, scale)


def _ceil(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
