"""How the frames of a dynamic resolution were looked at: counted, as shares, and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

# ``"small"``: the small look was enough. ``"full"``: a second one at full size followed.
# ``"as before"``: the small look left a doubt, but nothing had moved since the last full one.
Look = Literal["small", "full", "as before"]


def counted(looks: Iterable[Look | None]) -> dict[str, int]:
    """Frames by look; empty where the resolution is not dynamic (None)."""
    return dict(Counter(look for look in looks if look is not None))


def shares(counts: Iterable[Mapping[str, int]]) -> dict[str, float]:
    """Shares of all frames by look, from several counts; empty where there are none."""
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    frames = sum(total.values())
    return {look: total[look] / frames for look in ("small", "full", "as before") if total[look]}


def in_words(found: Mapping[str, float]) -> str:
    """Shares as a clause for a person; empty where there are none."""
    if not found:
        return ""
    said = {
        "small": "for {} of the frames the small look was enough",
        "full": "{} were looked at twice, small and in full",
        "as before": "{} got the last full look's result, as nothing had moved",
    }
    return ", ".join(
        text.format(f"{found.get(look, 0.0):.0%}")
        for look, text in said.items()
        if look in found or look != "as before"
    )
