"""Preprocessors: from a frame to the tensor the session takes.

Each has ``allocate(box)``, which makes a buffer that is used again and again, and
``run(frame, box, out)``, which fills it and returns the tensor to feed.
"""

from __future__ import annotations

from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from saccade.models.description import Preprocessing
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.frames import ArrayFrame, Frame, looked_at
from saccade.pipeline.geometry import Letterbox


class Preprocessor(Protocol):
    """Fills input tensors."""

    in_graph: bool

    def allocate(self, box: Letterbox) -> NDArray[Any]:
        """A buffer for one frame of this geometry."""
        ...

    def run(self, frame: Frame, box: Letterbox, out: NDArray[Any]) -> NDArray[Any]:
        """Preprocess ``frame`` into ``out`` (or a new array) and return the tensor."""
        ...


class NumpyPreprocessor:
    """The letterbox as most people write it: one NumPy pass per step, all of them allocating."""

    in_graph = False

    def __init__(self, config: PipelineConfig) -> None:
        self._pre = config.description.preprocessing

    def allocate(self, box: Letterbox) -> NDArray[Any]:
        """Nothing is reused here, so nothing is allocated."""
        return np.empty(0, np.float32)

    def run(self, frame: Frame, box: Letterbox, out: NDArray[Any]) -> NDArray[Any]:
        """Resize, pad, reorder, transpose, normalize: ``(1, 3, H, W)`` float32."""
        # Resize first and reorder the small image, as everybody does: the other way round costs
        # several milliseconds at 1080p and would make the baseline a straw man.
        if isinstance(frame, ArrayFrame):
            pixels, order = frame.pixels, frame.order
        else:
            pixels, order = frame.rgb(), "rgb"
        pixels = looked_at(pixels, box)
        if box.scaled_hw != pixels.shape[:2]:
            pixels = cv2.resize(pixels, box.scaled_hw[::-1])
        bottom = box.input_hw[0] - box.scaled_hw[0] - box.top
        right = box.input_hw[1] - box.scaled_hw[1] - box.left
        grey = (self._pre.pad_value,) * 3
        padded = cv2.copyMakeBorder(
            pixels, box.top, bottom, box.left, right, cv2.BORDER_CONSTANT, value=grey
        )
        if self._pre.channel_order != order:
            padded = padded[..., ::-1]
        tensor = padded.transpose(2, 0, 1)[None].astype(np.float32) * np.float32(self._pre.scale)
        if any(self._pre.mean) or any(value != 1 for value in self._pre.std):
            mean = np.array(self._pre.mean, np.float32).reshape(1, 3, 1, 1)
            std = np.array(self._pre.std, np.float32).reshape(1, 3, 1, 1)
            tensor = (tensor - mean) / std
        return np.ascontiguousarray(tensor)


class FusedPreprocessor:
    """Scales straight into a letterbox that is kept, then normalizes in one pass per channel."""

    in_graph = False

    def __init__(self, config: PipelineConfig) -> None:
        self._pre = config.description.preprocessing
        self._factor, self._offset = affine(self._pre)
        self._canvas: NDArray[np.uint8] | None = None
        self._box: Letterbox | None = None

    def allocate(self, box: Letterbox) -> NDArray[Any]:
        """A ``(1, 3, H, W)`` float32 buffer."""
        return np.empty((1, 3, *box.input_hw), np.float32)

    def run(self, frame: Frame, box: Letterbox, out: NDArray[Any]) -> NDArray[Any]:
        """Preprocess into ``out``."""
        if self._canvas is None or self._box != box:
            # Also where only the place in it changed: the border would keep the last frame.
            self._canvas, self._box = blank(box, self._pre), box
        frame.scale(box, self._pre.channel_order, self._canvas)
        for channel in range(3):
            target = out[0, channel]
            np.multiply(self._canvas[..., channel], self._factor[channel], out=target)
            if self._offset[channel]:
                target += self._offset[channel]
        return out


class GraphPreprocessor:
    """Only scales; conversion, normalization and layout are part of the model's graph."""

    in_graph = True

    def __init__(self, config: PipelineConfig) -> None:
        self._pre = config.description.preprocessing

    def allocate(self, box: Letterbox) -> NDArray[Any]:
        """A ``(1, H, W, 3)`` uint8 letterbox with its border painted."""
        return blank(box, self._pre)[None]

    def run(self, frame: Frame, box: Letterbox, out: NDArray[Any]) -> NDArray[Any]:
        """Scale the frame into ``out``; its border stays as it is."""
        frame.scale(box, self._pre.channel_order, out[0])
        return out


def blank(box: Letterbox, pre: Preprocessing) -> NDArray[np.uint8]:
    """An empty letterbox ``(H, W, 3)`` in the border's grey."""
    return np.full((*box.input_hw, 3), pre.pad_value, np.uint8)


def affine(pre: Preprocessing) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Normalization as one factor and one offset per channel: ``x = pixel * factor + offset``."""
    mean, std = np.array(pre.mean, np.float32), np.array(pre.std, np.float32)
    return (np.float32(pre.scale) / std).astype(np.float32), (-mean / std).astype(np.float32)
