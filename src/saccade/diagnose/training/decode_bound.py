"""Rule: decoding images (or the data set's own reading) holds steps back."""

from __future__ import annotations

from saccade.diagnose.records import Finding
from saccade.diagnose.training.loader_part import loader_part
from saccade.train.profile import TrainingProfile

HINTS = ("fast_decode", "scaled_decode", "cache", "dali", "workers", "prefetch")


def decode_bound(profile: TrainingProfile) -> Finding | None:
    """CPU time of the data set's ``__getitem__``, where many decode by themselves, and of decoding.

    Waiting for the disk is left to the rule about it.
    """
    source = profile.facts.source_hw or (0, 0)
    evidence = {"source_height": float(source[0]), "source_width": float(source[1])}
    parts = ("read_s", "decode_s")
    return loader_part(profile, "decode_bound", parts, "Reading and decoding", HINTS, evidence)
