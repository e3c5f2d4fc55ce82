"""One image file: find it, probe it cheaply, read it as RGB pixels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import DataProblem
from saccade.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)

# What OpenCV reads in every build; Pillow's names.
_READABLE_FORMATS = frozenset({"PNG", "BMP", "DIB", "WEBP", "TIFF", "PPM", "JPEG", "MPO"})
# OpenCV refuses images above 2^30 pixels (CV_IO_MAX_IMAGE_PIXELS).
_MAX_PIXELS = 2**30
# These say where they end; others are decoded to find out.
_SELF_DELIMITED = frozenset({"PNG", "WEBP"})

_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
# ITU-T T.81 table B.1: start-of-frame markers are C0..CF without DHT, JPG and DAC.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD8)})
_HEAD = 1 << 16
_TAIL = 64


def display_path(path: str | os.PathLike[str]) -> str:
    """``path`` as text that can always be printed and written to JSON.

    A file name on Linux is bytes; those that are not UTF-8 are shown as U+FFFD.
    """
    return os.fsencode(path).decode("utf-8", "replace")


# By name only, for hints: what is a video is found out by opening it.
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".webm", ".ts", ".m4v", ".mpg"})


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image (hidden files are not)."""
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES


def walk_images(folder: Path) -> Iterator[Path]:
    """Every image file below ``folder``, links followed once, hidden folders left out."""
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if is_image_name(name):
                yield Path(parent, name)


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read an image as RGB ``uint8`` ``(H, W, 3)``, EXIF orientation ignored.

    The pixels are those of ``cv2.imread(path, IMREAD_COLOR | IMREAD_IGNORE_ORIENTATION)`` with
    the channels reversed. The file is read by Python, because OpenCV cannot open every name on
    every platform.

    Raises:
        DataError: the file cannot be opened, is cut off, or is not an image OpenCV reads.
    """
    import cv2

    shown = display_path(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(
            f"The image {shown} cannot be opened: {error.strerror or error}. "
            "Check the path and its permissions."
        ) from error
    if not data:
        raise DataError(f"The image {shown} is empty. Download or export it again.")
    if data.startswith(_JPEG_START) and not _has_jpeg_end(data):
        raise DataError(f"The image {shown} is cut off. Download or export it again.")
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise DataError(f"The image {shown} cannot be decoded: {error.err}.") from error
    if image is None:
        raise DataError(
            f"The file {shown} is not an image that OpenCV reads. "
            "Expected a complete JPEG, PNG, BMP, WebP, TIFF or PPM file."
        )
    return np.asarray(image, np.uint8)


def probe_image(path: Path) -> tuple[int, int, DataProblem | None]:
    """Find the size of an image, and whether it can be used, without decoding it.

    A JPEG costs two small reads: its header is parsed here and its end is looked for. Other
    formats go through Pillow. Damage inside an otherwise complete file is not seen.

    Returns:
        Width and height in pixels (0 where unknown), and what is wrong, or None.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEAD)
            file.seek(max(0, size - _TAIL))
            tail = file.read(_TAIL)
        if head.startswith(_JPEG_START):
            return _probe_jpeg(path, head, tail)
        if not head:
            return _refused(path, "unreadable_image", "the file is empty")
        if _cut_off(path, head, tail, size):
            return _refused(path, "truncated_image", "the file ends before its declared end")
        return _probe_other(path)
    except OSError as error:
        return _refused(path, "unreadable_image", f"cannot be opened: {error.strerror or error}")


def _refused(path: Path, kind: str, detail: str) -> tuple[int, int, DataProblem]:
    return 0, 0, DataProblem(kind, display_path(path), detail, "skipped")


def _probe_jpeg(path: Path, head: bytes, tail: bytes) -> tuple[int, int, DataProblem | None]:
    layout = _jpeg_layout(head)
    if layout is None and len(head) == _HEAD:
        # A colour profile or a preview picture can push the frame header beyond the first read.
        layout = _jpeg_layout(path.read_bytes())
    if layout is None:
        return _refused(path, "truncated_image", "the JPEG ends within its header")
    width, height, scan = layout
    if not _ends_jpeg(tail) and _JPEG_END not in path.read_bytes()[scan:]:
        return _refused(path, "truncated_image", "the JPEG has no end-of-image marker")
    return width, height, None


def _jpeg_layout(data: bytes) -> tuple[int, int, int] | None:
    """Width, height, and where the first scan begins; None where ``data`` ends before it."""
    position, size = 2, (0, 0)
    while position >= 0 and position + 4 <= len(data):
        marker = data[position + 1]
        if data[position] != 0xFF:
            position = data.find(b"\xff", position)
        elif marker == 0xFF:
            position += 1
        elif marker in _JPEG_BARE:
            position += 2
        else:
            length = int.from_bytes(data[position + 2 : position + 4], "big")
            if marker in _JPEG_FRAMES and position + 9 <= len(data):
                height = int.from_bytes(data[position + 5 : position + 7], "big")
                size = (int.from_bytes(data[position + 7 : position + 9], "big"), height)
            position += 2 + length
            if marker == 0xDA:
                return (*size, position) if all(size) else None
    return None


def _ends_jpeg(tail: bytes) -> bool:
    # Some writers pad the file after the end-of-image marker.
    return tail.rstrip(b"\x00\xff\r\n").endswith(_JPEG_END)


def _has_jpeg_end(data: bytes) -> bool:
    if _ends_jpeg(data[-_TAIL:]):
        return True
    layout = _jpeg_layout(data)
    # Within scans FF is followed by 00 or a restart marker, so FFD9 there is the real end; a
    # preview picture inside the header has an end of its own, which must not count.
    return layout is not None and _JPEG_END in data[layout[2] :]


def _probe_other(path: Path) -> tuple[int, int, DataProblem | None]:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                width, height = image.size
                if image.format not in _READABLE_FORMATS:
                    detail = f"OpenCV does not read {image.format} files"
                    return _refused(path, "unreadable_image", detail)
                if not 0 < width * height <= _MAX_PIXELS:
                    detail = f"{width}×{height} is not a size OpenCV reads"
                    return _refused(path, "unreadable_image", detail)
                if image.format not in _SELF_DELIMITED and not _loads(image):
                    detail = f"the {image.format} file ends early"
                    return _refused(path, "truncated_image", detail)
    except UnidentifiedImageError:
        return _refused(path, "unreadable_image", "it is not an image")
    except Image.DecompressionBombError:
        return _refused(path, "unreadable_image", "it has too many pixels")
    except (SyntaxError, ValueError) as error:
        return _refused(path, "unreadable_image", f"its header is damaged: {error}")
    return width, height, None


def _cut_off(path: Path, head: bytes, tail: bytes, size: int) -> bool:
    """Whether a file that says where it ends, PNG or WebP, ends before that."""
    if head.startswith(b"\x89PNG"):
        return b"IEND" not in tail and b"IEND" not in path.read_bytes()
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return int.from_bytes(head[4:8], "little") + 8 > size
    return False


def _loads(image: Image.Image) -> bool:
    try:
        image.load()
    except (OSError, ValueError, SyntaxError):
        return False
    return True
