"""Frames as the decoders hand them over, each able to scale itself without a detour.

Every class has ``hw`` (height, width), ``rgb()`` and ``scale(box, order, canvas)``, which
writes the frame, scaled, into its place in a uint8 ``(H, W, 3)`` letterbox canvas whose
border is already there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from saccade.models.description import ChannelOrder
from saccade.pipeline.geometry import Letterbox

# Pixel formats whose three planes can be scaled one by one; others go through FFmpeg's scaler.
PLANAR_FORMATS = frozenset({"yuv420p", "yuvj420p"})
_FULL_RANGE = 2
# Matrices (ITU-T H.273) that OpenCV's conversion of YUV stands for: unspecified, which FFmpeg
# takes for BT.601 too, and BT.601 in its European and American variants.
_BT601 = frozenset({2, 5, 6})


class Frame(Protocol):
    """One decoded frame."""

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        ...

    def rgb(self) -> NDArray[np.uint8]:
        """The frame as RGB ``(H, W, 3)``."""
        ...

    def scale(self, box: Letterbox, order: ChannelOrder, canvas: NDArray[np.uint8]) -> None:
        """Write the frame, scaled, into its place in ``canvas``, channels in ``order``."""
        ...


@dataclass(frozen=True)
class ArrayFrame:
    """A frame that is already an array ``(H, W, 3)`` uint8 with channels in ``order``."""

    pixels: NDArray[np.uint8]
    order: ChannelOrder

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def rgb(self) -> NDArray[np.uint8]:
        """The frame as RGB ``(H, W, 3)``."""
        return self.pixels if self.order == "rgb" else np.ascontiguousarray(self.pixels[..., ::-1])

    def scale(self, box: Letterbox, order: ChannelOrder, canvas: NDArray[np.uint8]) -> None:
        """Bilinear scaling on the interleaved pixels, then the channels are put in order."""
        target = inside(canvas, box)
        pixels = looked_at(self.pixels, box)
        if box.scaled_hw == pixels.shape[:2]:
            target[...] = pixels if order == self.order else pixels[..., ::-1]
        elif order == self.order:
            cv2.resize(pixels, target.shape[1::-1], dst=target)
        else:
            small = cv2.resize(pixels, target.shape[1::-1])
            cv2.cvtColor(small, cv2.COLOR_BGR2RGB, dst=target)


class PlanarFrame:
    """A decoder's frame in YUV. Scales the planes first, so only few pixels are converted.

    Bilinear scaling and colour conversion are both linear, so doing the scaling first gives the
    pixels of the usual order but for rounding, at about a quarter of its cost for 1080p to 640.
    """

    def __init__(self, frame: av.VideoFrame) -> None:
        self._frame = frame

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._frame.height, self._frame.width

    def rgb(self) -> NDArray[np.uint8]:
        """The frame as RGB ``(H, W, 3)``."""
        return self._frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)

    def scale(self, box: Letterbox, order: ChannelOrder, canvas: NDArray[np.uint8]) -> None:
        """Scale Y, U and V on their own, then convert at the small size."""
        if box.crop is not None:
            ArrayFrame(self.rgb(), "rgb").scale(box, order, canvas)
            return
        height, width = box.scaled_hw
        planar = self._frame.format.name in PLANAR_FORMATS and not height % 2 and not width % 2
        if not planar:
            SwscaleFrame(self._frame).scale(box, order, canvas)
            return
        small = np.empty((height * 3 // 2, width), np.uint8)
        flat = small.reshape(-1)
        area = height * width
        chroma = (height // 2, width // 2)
        targets = (
            small[:height],
            flat[area : area + area // 4].reshape(chroma),
            flat[area + area // 4 :].reshape(chroma),
        )
        for plane, target in zip(self._frame.planes, targets, strict=True):
            shrink(plane_pixels(plane), target)
        self._convert(small, order, inside(canvas, box))

    def _convert(
        self, small: NDArray[np.uint8], order: ChannelOrder, target: NDArray[np.uint8]
    ) -> None:
        """From I420 to interleaved, by the matrix and the range that the video declares."""
        frame = self._frame
        full = frame.format.name == "yuvj420p" or int(frame.color_range) == _FULL_RANGE
        if int(frame.colorspace) in _BT601 and not full:
            code = cv2.COLOR_YUV2RGB_I420 if order == "rgb" else cv2.COLOR_YUV2BGR_I420
            cv2.cvtColor(small, code, dst=target)
            return
        # OpenCV knows one matrix only; FFmpeg is slower but knows them all.
        scaled = av.VideoFrame.from_ndarray(small, format=frame.format.name)
        scaled.colorspace, scaled.color_range = frame.colorspace, frame.color_range
        target[...] = scaled.to_ndarray(format="rgb24" if order == "rgb" else "bgr24")


class SwscaleFrame:
    """A decoder's frame, scaled and converted by FFmpeg in one pass."""

    def __init__(self, frame: av.VideoFrame) -> None:
        self._frame = frame

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._frame.height, self._frame.width

    def rgb(self) -> NDArray[np.uint8]:
        """The frame as RGB ``(H, W, 3)``."""
        return self._frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)

    def scale(self, box: Letterbox, order: ChannelOrder, canvas: NDArray[np.uint8]) -> None:
        """Bilinear scaling and conversion in libswscale."""
        if box.crop is not None:
            ArrayFrame(self.rgb(), "rgb").scale(box, order, canvas)
            return
        height, width = box.scaled_hw
        small = self._frame.reformat(
            width=width,
            height=height,
            format="rgb24" if order == "rgb" else "bgr24",
            interpolation="BILINEAR",
        )
        inside(canvas, box)[...] = small.to_ndarray()


def shrink(plane: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
    """Bilinear scaling of one plane ``(H, W)`` into ``target``.

    At an odd whole factor bilinear samples fall on pixel centres, so that copying those pixels
    gives the same result for less: 1080p to 640 pixels is a factor of three.
    """
    rows, columns = plane.shape[0] // target.shape[0], plane.shape[1] // target.shape[1]
    whole = plane.shape == (rows * target.shape[0], columns * target.shape[1])
    if whole and rows % 2 and columns % 2:
        target[...] = plane[rows // 2 :: rows, columns // 2 :: columns]
    else:
        cv2.resize(plane, target.shape[::-1], dst=target)


def plane_pixels(plane: Any) -> NDArray[np.uint8]:
    """A view ``(H, W)`` of one plane of a decoded frame, without its row padding."""
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


def looked_at(pixels: NDArray[np.uint8], box: Letterbox) -> NDArray[np.uint8]:
    """The part of a frame ``(H, W, 3)`` that the model sees, as a view."""
    if box.crop is None:
        return pixels
    top, left, height, width = box.crop
    return pixels[top : top + height, left : left + width]


def inside(canvas: NDArray[np.uint8], box: Letterbox) -> NDArray[np.uint8]:
    """The part of a canvas ``(H, W, 3)`` that the scaled frame covers, as a view."""
    height, width = box.scaled_hw
    return canvas[box.top : box.top + height, box.left : box.left + width]


def as_decoded(rgb: NDArray[np.uint8], resize: str) -> Frame:
    """An image as the video path would deliver it, so that accuracy is judged on that path.

    For ``planes`` and ``swscale`` the image ``(H, W, 3)`` first becomes 4:2:0 YUV, as every
    video frame is; ``bgr`` is the path of plain images.
    """
    if resize == "bgr":
        return ArrayFrame(rgb, "rgb")
    height, width = (side - side % 2 for side in rgb.shape[:2])
    if not height or not width:  # one pixel wide: no video has such frames
        return ArrayFrame(rgb, "rgb")
    even = np.ascontiguousarray(rgb[:height, :width])
    frame = av.VideoFrame.from_ndarray(even, format="rgb24").reformat(format="yuv420p")
    return PlanarFrame(frame) if resize == "planes" else SwscaleFrame(frame)
