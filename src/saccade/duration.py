"""How a length of time is written: ``5m``, ``90s``, ``1h30m``."""

from __future__ import annotations

import re

_DURATION = re.compile(
    r"^\s*(?:(\d+(?:\.\d+)?)\s*h)?\s*(?:(\d+(?:\.\d+)?)\s*m(?:in)?)?\s*(?:(\d+(?:\.\d+)?)\s*s)?\s*$"
)
_NUMBER = re.compile(r"^\s*\d+(?:\.\d+)?\s*$")


def parse_duration(value: object) -> float:
    """Seconds of ``"5m"``, ``"1h30m"``, ``"90s"`` or a number of seconds, also as text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and _NUMBER.match(value):
        return float(value)
    match = _DURATION.match(str(value))
    if match is None or not any(match.groups()):
        raise ValueError("expected a duration such as 5m, 90s or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds
