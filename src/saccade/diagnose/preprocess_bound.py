"""Rule: turning frames into input tensors holds the pipeline back."""

from __future__ import annotations

from saccade.diagnose.records import Finding
from saccade.diagnose.stage_bound import stage_bound
from saccade.profile.records import Profile

HINTS = ("fused_preprocess", "graph_preprocess", "fast_decode", "rect_letterbox")


def preprocess_bound(profile: Profile) -> Finding | None:
    """Preprocessing's share of the frame and what doing it for free would gain at most."""
    return stage_bound(profile, "preprocess", "preprocess_bound", "Preprocessing", HINTS)
