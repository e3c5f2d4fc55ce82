"""Rule: loading waits for storage or the network."""

from __future__ import annotations

from saccade.diagnose.records import Finding
from saccade.diagnose.training.loader_part import loader_part
from saccade.train.profile import TrainingProfile

HINTS = ("cache", "shards", "workers", "prefetch")


def disk_bound(profile: TrainingProfile) -> Finding | None:
    """Time in which reading and decoding neither used the CPU nor waited for a core."""
    read_mb_s = profile.loader.read_mb_s if profile.loader else 0.0
    evidence = {"read_mb_s": read_mb_s, "file_kb": profile.facts.file_kb}
    return loader_part(
        profile, "disk_bound", ("disk_s",), "Waiting for storage or the network", HINTS, evidence
    )
