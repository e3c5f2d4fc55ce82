"""What the best system's dynamic resolution does, as a sentence. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from saccade.looks import in_words
from saccade.report import quantities as q
from saccade.report.document import mapping


def dynamic_resolution(result: Mapping[str, Any]) -> str:
    """Its sizes and limits, and how often each was used; empty where the best system has none."""
    best = mapping(result.get("best"))
    config = mapping(best.get("config"))
    policy = mapping(config.get("dynamic_resolution"))
    if not policy:
        return ""
    limits = " and ".join(
        f"{q.number(policy.get(name)) or 0.0:g}" for name in ("doubt_above", "sure_from")
    )
    text = (
        f"Dynamic resolution: each frame at {policy.get('small_size')} px, and again at "
        f"{config.get('input_size')} px where a box scores between {limits}"
    )
    still = q.number(policy.get("still_up_to"))
    if still:
        text += f", unless nothing changed by more than {still:.0%} of full brightness since"
    shares = {name: q.number(share) for name, share in mapping(best.get("looks")).items()}
    said = in_words({name: share for name, share in shares.items() if share is not None})
    return f"{text}. In the final measurement {said}." if said else f"{text}."
