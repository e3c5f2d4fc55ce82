"""Addresses of network streams: which texts are one, and how they are shown."""

from __future__ import annotations

import re

_SCHEMES = ("rtsp://", "rtsps://", "rtmp://", "udp://", "srt://", "http://", "https://")
_SHOWN = re.compile(r"^(\w+://)(?:[^/?#]*@)?([^?#]*)")


def is_address(text: str) -> bool:
    """Whether a text is the address of a network stream."""
    return text.lower().startswith(_SCHEMES)


def without_password(text: str) -> str:
    """An address as it may be shown; any other text is left alone.

    The query goes too, since some cameras take their password there.
    """
    found = _SHOWN.match(text) if is_address(text) else None
    return "".join(found.groups()) if found else text
