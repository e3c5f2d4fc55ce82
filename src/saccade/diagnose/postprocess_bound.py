"""Rule: decoding the outputs and NMS hold the pipeline back."""

from __future__ import annotations

from saccade.diagnose.records import Finding
from saccade.diagnose.stage_bound import stage_bound
from saccade.profile.records import Profile

HINTS = ("vectorized_nms", "top_k_nms", "nms_in_graph", "overlap_stages")


def postprocess_bound(profile: Profile) -> Finding | None:
    """Postprocessing's share of the frame and what doing it for free would gain at most."""
    # What masks take, `mask_bound` answers for.
    masks_ms = (profile.masks_share or 0.0) * profile.stage("postprocess").wall_ms
    return stage_bound(
        profile, "postprocess", "postprocess_bound", "Postprocessing with NMS", HINTS, masks_ms
    )
