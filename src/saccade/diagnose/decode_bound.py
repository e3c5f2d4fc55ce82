"""Rule: reading and decoding frames holds the pipeline back."""

from __future__ import annotations

from saccade.diagnose.io_bound import storage_wait_ms
from saccade.diagnose.records import Finding
from saccade.diagnose.stage_bound import stage_bound
from saccade.profile.records import Profile

HINTS = ("fast_decode", "skip_loop_filter", "overlap_stages")


def decode_bound(profile: Profile) -> Finding | None:
    """Decode's share of the frame and what a free decoder would gain at most.

    Time that decode waits for the disk would remain, and is left to the I/O rule.
    """
    rest_ms = storage_wait_ms(profile)
    return stage_bound(profile, "decode", "decode_bound", "Decoding", HINTS, rest_ms)
