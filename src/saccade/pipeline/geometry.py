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
        scale: scaled over original width.
        scale_y: scaled over original height, where that is another; None where the aspect is kept.
        crop: top, left, height and width of the part of the frame that is looked at, in frame
            pixels; None for all of it.
    """

    input_hw: tuple[int, int]
    frame_hw: tuple[int, int]
    scaled_hw: tuple[int, int]
    top: int
    left: int
    scale: float
    crop: tuple[int, int, int, int] | None = None
    scale_y: float | None = None

    def to_frame(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map ``(N, 4)`` xyxy boxes from input to frame pixels, clipped to the frame."""
        shifted = boxes - np.array([self.left, self.top] * 2, np.float32)
        scales = np.array([self.scale, self.scale_y or self.scale] * 2, np.float32)
        top, left = self.crop[:2] if self.crop is not None else (0, 0)
        corner = np.array([left, top] * 2, np.float32)
        height, width = self.frame_hw
        limit = np.array([width, height] * 2, np.float32)
        mapped: NDArray[np.float32] = np.clip(shifted / scales + corner, 0, limit)
        return mapped.astype(np.float32)


def letterbox(
    frame_hw: tuple[int, int],
    input_size: int,
    stride: int,
    shape: str,
    anchor: Anchor,
    margin: int = 0,
    squeeze: float = 1.0,
) -> Letterbox:
    """Scale a frame so that its longer side is ``input_size`` and pad it.

    ``shape="square"`` pads to ``input_size`` on both sides. ``"rect"`` cuts whole strides off that
    square, as far as at least ``margin`` pixels of border remain where there was one. The frame
    so keeps its phase on the grid of the model's strides: only the grey far away is missing. A
    letterbox that is merely padded to the next stride shifts the frame by part of a stride,
    which costs accuracy for nothing.

    ``squeeze`` below 1 makes the longer side so much shorter than its proportion, and the square
    with it: another aspect, which looks at fewer pixels along that side alone.
    """
    height, width = frame_hw
    scale = min(input_size / height, input_size / width)
    scaled = (max(1, round(height * scale)), max(1, round(width * scale)))
    canvas = (input_size, input_size)
    vertical = None
    if squeeze != 1:
        scaled, canvas = _squeezed(scaled, input_size, stride, squeeze)
        vertical, scale = scaled[0] / height, scaled[1] / width
    before, after = _borders(scaled, canvas, anchor)
    if shape == "rect":
        before = tuple(_cut(border, stride, margin) for border in before)
        after = tuple(_cut(border, stride, margin) for border in after)
        # The sides of a square that is no multiple of the stride still have to fit the model.
        after = tuple(
            end + -(start + side + end) % stride
            for start, side, end in zip(before, scaled, after, strict=True)
        )
    target = (before[0] + scaled[0] + after[0], before[1] + scaled[1] + after[1])
    return Letterbox(target, frame_hw, scaled, before[0], before[1], scale, scale_y=vertical)


def _squeezed(
    scaled: tuple[int, int], input_size: int, stride: int, squeeze: float
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The scaled frame and its canvas, both shorter along the frame's longer side."""
    side = max(stride, round(input_size * squeeze / stride) * stride)
    height, width = scaled
    if width >= height:
        return (height, max(1, round(width * side / input_size))), (input_size, side)
    return (max(1, round(height * side / input_size)), width), (side, input_size)


def stretched(frame_hw: tuple[int, int], input_hw: tuple[int, int]) -> Letterbox:
    """The whole frame fills the input, whatever its aspect."""
    across, down = input_hw[1] / frame_hw[1], input_hw[0] / frame_hw[0]
    return Letterbox(input_hw, frame_hw, input_hw, 0, 0, across, scale_y=down)


def center_cropped(frame_hw: tuple[int, int], input_hw: tuple[int, int], share: float) -> Letterbox:
    """The centre of the frame, of the input's aspect and ``share`` of the shorter side.

    The same pixels as scaling the shorter side to ``input / share`` and cutting out the centre.
    """
    unit = share * min(frame_hw[0] / input_hw[0], frame_hw[1] / input_hw[1])
    height, width = (
        max(1, min(f, round(i * unit))) for i, f in zip(input_hw, frame_hw, strict=True)
    )
    crop = (frame_hw[0] - height) // 2, (frame_hw[1] - width) // 2, height, width
    across, down = input_hw[1] / width, input_hw[0] / height
    return Letterbox(input_hw, frame_hw, input_hw, 0, 0, across, crop, down)


def _borders(
    scaled: tuple[int, int], canvas: tuple[int, int], anchor: Anchor
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Border before (top, left) and after (bottom, right) the frame in the letterbox."""
    spare = tuple(whole - side for whole, side in zip(canvas, scaled, strict=True))
    if anchor == "top_left":
        return (0, 0), spare
    # Half a pixel goes to the bottom right, as in the letterbox of the YOLO family.
    before = tuple(round(total / 2 - 0.1) for total in spare)
    return before, tuple(total - start for total, start in zip(spare, before, strict=True))


def _cut(border: int, stride: int, margin: int) -> int:
    """What is left of a border after cutting as many whole strides as ``margin`` allows."""
    return border - max(0, (border - margin) // stride) * stride
