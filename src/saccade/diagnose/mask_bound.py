"""Rule: decoding the masks of objects holds the pipeline back."""

from __future__ import annotations

from dataclasses import replace

from saccade.diagnose.records import Finding
from saccade.diagnose.stage_bound import stage_bound
from saccade.profile.records import Profile

HINTS = ("cropped_masks", "overlap_stages")


def mask_bound(profile: Profile) -> Finding | None:
    """The share of masks in the frame, and what postprocessing without them would gain at most.

    Only where the profile tells masks from the rest of postprocessing.
    """
    share, whole = profile.masks_share, profile.stage("postprocess").wall_ms
    if not share:
        return None
    masks_ms = share * whole
    rest_ms = whole - masks_ms
    found = stage_bound(
        profile, "postprocess", "mask_bound", "Postprocessing with masks", HINTS, rest_ms
    )
    if found is None:
        return None
    title = f"{found.title} {masks_ms:.1f} ms of it are masks."
    evidence = {"masks_ms": masks_ms, **found.evidence}
    return replace(found, title=title, evidence=evidence)
