"""What is done to the pixels of one sample, step by step, in arrays ``(H, W, C)`` of uint8.

The steps give what torchvision's transforms give: resizing is the same kernel, colours are the
same arithmetic. They call nothing that starts threads of its own or touches a global generator,
so that many threads can take them beside a training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
# Of red, green and blue in a grey, as torchvision weighs them.
_GREY = np.array([[0.2989, 0.587, 0.114]], np.float32)


class PixelStep(Protocol):
    """A step whose random parameters are drawn."""

    def image(self, pixels: Pixels) -> Pixels:
        """The step on an image, ``(H, W, 3)`` or ``(H, W)``."""
        ...

    def mask(self, pixels: Pixels) -> Pixels:
        """The step on a mask of class ids, ``(H, W)``."""
        ...


@dataclass(frozen=True)
class Crop:
    """A part of the image; the pixel at ``(top, left)`` is its first."""

    top: int
    left: int
    height: int
    width: int

    def image(self, pixels: Pixels) -> Pixels:
        """A view."""
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]

    mask = image


@dataclass(frozen=True)
class ResizeTo:
    """To another size; images with anti-aliasing, masks by the nearest pixel.

    Attributes:
        mode: ``"bilinear"`` or ``"bicubic"``.
    """

    height: int
    width: int
    mode: str = "bilinear"

    def image(self, pixels: Pixels) -> Pixels:
        """PyTorch's uint8 kernel, which torchvision uses."""
        import torch

        size = (self.height, self.width)
        if pixels.shape[:2] == size:
            return pixels
        grey = pixels.ndim == 2
        planes = torch.from_numpy(np.require(pixels, requirements=["W", "A", "C"]))
        planes = planes[None, None] if grey else planes.permute(2, 0, 1)[None]
        with torch.inference_mode():
            made = torch.nn.functional.interpolate(
                planes, size=size, mode=self.mode, antialias=True
            )
        return np.asarray(made[0, 0] if grey else made[0].permute(1, 2, 0))

    def mask(self, pixels: Pixels) -> Pixels:
        """The nearest pixel, in single precision as PyTorch finds it."""
        rows, columns = (
            np.minimum(
                (np.arange(new, dtype=np.float32) * np.float32(old / new)).astype(np.intp), old - 1
            )
            for old, new in zip(pixels.shape[:2], (self.height, self.width), strict=True)
        )
        made: Pixels = pixels.take(rows, axis=0).take(columns, axis=1)
        return made


@dataclass(frozen=True)
class Flip:
    """Mirrored: axis 1 left to right, axis 0 upside down."""

    axis: int

    def image(self, pixels: Pixels) -> Pixels:
        """A view."""
        return pixels[:, ::-1] if self.axis == 1 else pixels[::-1]

    mask = image


@dataclass(frozen=True)
class Jitter:
    """Colours changed, in this order.

    Attributes:
        changes: each ``"brightness"``, ``"contrast"``, ``"saturation"`` or ``"hue"``, and by
            how much.
    """

    changes: tuple[tuple[str, float], ...]

    def image(self, pixels: Pixels) -> Pixels:
        """Rounded to uint8 after each change, as torchvision does it."""
        pixels = np.ascontiguousarray(pixels)
        for name, amount in self.changes:
            pixels = _COLOURS[name](pixels, np.float32(amount))
        return pixels

    def mask(self, pixels: Pixels) -> Pixels:
        """Class ids have no colour."""
        return pixels


def _brightness(pixels: Pixels, factor: np.float32) -> Pixels:
    return _looked_up(pixels, np.arange(256, dtype=np.float32) * factor)


def _contrast(pixels: Pixels, factor: np.float32) -> Pixels:
    mean = np.float32(np.floor(_grey(pixels)).mean(dtype=np.float64))
    return _looked_up(pixels, np.arange(256, dtype=np.float32) * factor + mean * (1 - factor))


def _saturation(pixels: Pixels, factor: np.float32) -> Pixels:
    grey = np.floor(_grey(pixels))
    mixed = pixels * factor + grey[..., None] * (np.float32(1) - factor)
    made: Pixels = np.clip(mixed, 0, 255).astype(np.uint8)
    return made


def _hue(pixels: Pixels, shift: np.float32) -> Pixels:
    import cv2

    hsv = cv2.cvtColor(pixels.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + shift * np.float32(360)) % np.float32(360)
    turned = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    made: Pixels = (np.clip(turned, 0, 1) * np.float32(255.999)).astype(np.uint8)
    return made


_COLOURS = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "hue": _hue,
}


def _grey(pixels: Pixels) -> NDArray[np.float32]:
    import cv2

    made: NDArray[np.float32] = cv2.transform(pixels.astype(np.float32), _GREY)
    grey: NDArray[np.float32] = made.reshape(pixels.shape[:2])
    return grey


def _looked_up(pixels: Pixels, table: NDArray[np.float32]) -> Pixels:
    import cv2

    found: Pixels = cv2.LUT(pixels, np.clip(table, 0, 255).astype(np.uint8))
    return found
