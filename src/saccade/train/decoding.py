"""Image files within a sample become arrays.

The first is the picture and becomes RGB whatever the file holds, as data sets of photographs have
some in grey; any further one that has a single channel is a mask and keeps its indices.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import DataError
from saccade.train.image_header import ImageHeader, image_header

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
Pixels = NDArray[np.uint8]
# Decodes a file; where it is told so, as a picture in RGB.
Decoder = Callable[[Path, bool], Pixels]
# Where the bytes of a file come from: the file itself, or a shard that holds a copy.
Reader = Callable[[Path], bytes | memoryview]


def is_image(value: Any) -> bool:
    """Whether a part of a sample is the path of an image."""
    return isinstance(value, Path) and value.suffix.lower() in IMAGE_SUFFIXES


def images_in(sample: Any) -> list[Path]:
    """The image files of a sample, in order."""
    return [value for value in _parts(sample) if is_image(value)]


def decoded(sample: Any, decode: Decoder, rgb: bool = True) -> Any:
    """The same sample with its image files decoded; anything else stays what it is.

    Args:
        sample: a path, or a tuple or dictionary with paths among its parts.
        decode: who decodes them.
        rgb: whether the first is the picture; not where that was decoded before.
    """
    if is_image(sample):
        return decode(sample, rgb)
    if isinstance(sample, tuple):
        return tuple(_each(sample, decode, rgb))
    if isinstance(sample, dict):
        return dict(zip(sample, _each(sample.values(), decode, rgb), strict=True))
    return sample


def _each(parts: Iterable[Any], decode: Decoder, rgb: bool) -> Iterator[Any]:
    for part in parts:
        if is_image(part):
            yield decode(part, rgb)
            rgb = False
        else:
            yield part


def file_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror or error}") from error


def decode_with_pillow(path: Path, rgb: bool = True, read: Reader = file_bytes) -> Pixels:
    """Decode as most training scripts do.

    Args:
        path: of the image.
        rgb: any image becomes ``(H, W, 3)``; else one of indices or greys stays ``(H, W)``.
        read: who gets its bytes.

    Raises:
        DataError: the file is missing, truncated or no image.
    """
    return _pillow(path, read(path), rgb)


def decode_with_opencv(
    path: Path, rgb: bool = True, read: Reader = file_bytes, fraction: float = 1.0
) -> Pixels:
    """The same pixels several times faster; what OpenCV reads otherwise is left to Pillow.

    Args:
        path: of the image.
        rgb: as in `decode_with_pillow`.
        read: who gets its bytes.
        fraction: 1/2, 1/4 or 1/8 decodes a JPEG at that size, rounded up, by leaving out
            frequencies; other images come whole.

    Raises:
        DataError: the file is missing, truncated or no image.
    """
    return opencv_pixels(path, read(path), fraction, rgb)


def opencv_pixels(
    path: Path, data: bytes | memoryview, fraction: float = 1.0, rgb: bool = True
) -> Pixels:
    """`decode_with_opencv` of bytes that were read already."""
    import cv2

    flag = _flag(image_header(data), fraction, rgb)
    if flag is None:
        return _pillow(path, data, rgb)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error:
        pixels = None
    return _pillow(path, data, rgb) if pixels is None else pixels


def _flag(header: ImageHeader | None, fraction: float, rgb: bool) -> int | None:
    """How OpenCV is told to give what Pillow would give; None where it would not."""
    import cv2

    # OpenCV fills what is missing of a cut-off file with grey and says nothing.
    if header is None or not header.complete or header.bits != 8:
        return None
    keep = int(cv2.IMREAD_IGNORE_ORIENTATION)
    if header.channels == 1 and not rgb:
        return keep | int(cv2.IMREAD_GRAYSCALE)
    if header.channels not in (1, 3):
        return None
    if header.kind == "png" or fraction == 1.0:
        return keep | int(cv2.IMREAD_COLOR_RGB)
    # Named after grey, but they say nothing of colour beside the flag for RGB.
    reduced = {
        0.5: cv2.IMREAD_REDUCED_GRAYSCALE_2,
        0.25: cv2.IMREAD_REDUCED_GRAYSCALE_4,
        0.125: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    }
    return keep | int(cv2.IMREAD_COLOR_RGB) | int(reduced[fraction])


def _pillow(path: Path, data: bytes | memoryview, rgb: bool) -> Pixels:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            single = image.mode in ("P", "L", "1") and not rgb
            plain = image if single else image.convert("RGB")
            # A copy that may be written to, as transforms expect of an array.
            return np.array(plain, np.uint8)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise DataError(f"'{path}' cannot be decoded: {error}") from error


def _parts(sample: Any) -> list[Any]:
    if isinstance(sample, tuple):
        return list(sample)
    if isinstance(sample, dict):
        return list(sample.values())
    return [sample]
