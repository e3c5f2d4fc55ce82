"""Size and channels of an image from the first bytes of its file, without decoding it.

JPEG: ITU-T T.81, B.1.1 and B.2.2 (markers and frame header). PNG: W3C PNG, 11.2.1 (IHDR).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
# Start-of-frame markers; those left out mean tables and arithmetic conditioning.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_PNG_CHANNELS = {0: 1, 2: 3, 3: 0, 4: 2, 6: 4}
# Files end within so many bytes after their end-of-image marker, unless they are cut off.
_TAIL = 4096


@dataclass(frozen=True)
class ImageHeader:
    """What a file says of its image.

    Attributes:
        channels: 1 grey, 3 RGB or YCbCr, 4 with alpha or CMYK; 0 indices into a palette.
        bits: of one channel.
        complete: the end of the image is there.
    """

    kind: Literal["jpeg", "png"]
    height: int
    width: int
    channels: int
    bits: int
    complete: bool


def image_header(data: bytes | memoryview) -> ImageHeader | None:
    """The header of a JPEG or PNG; None for anything else, and for what is broken."""
    head = bytes(data[:8])
    if head.startswith(_JPEG):
        return _jpeg(data)
    return _png(data) if head == _PNG else None


def _jpeg(data: bytes | memoryview) -> ImageHeader | None:
    place, end = 2, len(data)
    while place + 9 < end:
        if data[place] != 0xFF:
            return None
        marker = data[place + 1]
        if marker == 0xFF or marker in _ALONE:  # padding, or a marker without a segment
            place += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAMES:
            height, width = _number(data, place + 5), _number(data, place + 7)
            complete = b"\xff\xd9" in bytes(data[-_TAIL:])
            return ImageHeader("jpeg", height, width, data[place + 9], data[place + 4], complete)
        place += 2 + _number(data, place + 2)
    return None


def _png(data: bytes | memoryview) -> ImageHeader | None:
    if len(data) < 26:
        return None
    width = int.from_bytes(data[16:20], "big")
    height = int.from_bytes(data[20:24], "big")
    channels = _PNG_CHANNELS.get(data[25])
    if channels is None:
        return None
    return ImageHeader("png", height, width, channels, data[24], b"IEND" in bytes(data[-_TAIL:]))


def _number(data: bytes | memoryview, place: int) -> int:
    return int.from_bytes(data[place : place + 2], "big")
