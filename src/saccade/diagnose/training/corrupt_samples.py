"""Rule: some samples cannot be read."""

from __future__ import annotations

from saccade.diagnose.records import Finding
from saccade.train.profile import TrainingProfile

SHOWN = 3


def corrupt_samples(profile: TrainingProfile) -> Finding | None:
    """Samples that the scan could not read, or that steps had to leave out."""
    blocks = [block for block in (profile.warmup, profile.block, profile.loader) if block]
    skipped = sum(block.corrupt for block in blocks)
    broken = profile.scan.broken if profile.scan else ()
    if not skipped and not broken:
        return None
    scanned = profile.scan.scanned if profile.scan else 0
    allowed = profile.config.max_corrupt if profile.config else 0.0
    examples = "; ".join(f"sample {bad.index}: {bad.reason}" for bad in broken[:SHOWN])
    title = (
        f"{len(broken)} of the {scanned} samples that were looked at cannot be read, and steps "
        f"left out {skipped}" + (f" ({examples})." if examples else ".")
    )
    evidence = {
        "broken": float(len(broken)),
        "scanned": float(scanned),
        "broken_share": len(broken) / scanned if scanned else 0.0,
        "allowed_share": allowed,
        "left_out_in_steps": float(skipped),
    }
    return Finding("corrupt_samples", title, evidence, 0.0, 1.0, 1.0)
