"""Rule: the loader holds more memory with every batch."""

from __future__ import annotations

from saccade.diagnose.records import Finding
from saccade.train.profile import TrainingProfile

# The first batches fill buffers and caches that stay.
SETTLED = 0.25
MIN_POINTS = 10
# Allocators grow by less than this per batch for a while.
MIN_MB = 0.05
MIN_GROWTH_MB = 2.0
# And slow down, where a leak goes on: in the later half it grows at least so much of the whole.
LASTING = 0.6


def leaking_loader(profile: TrainingProfile) -> Finding | None:
    """The slope of resident memory over batches of the loader alone, where it is surely positive.

    A robust line (Sen, 1968) through the batches after the first ones. Nothing can be said where
    the loader caches samples, because it then grows on purpose.
    """
    config, loader = profile.config, profile.loader
    if loader is None or (config is not None and config.loader.cache != "none"):
        return None
    settled = loader.rss_mb[int(SETTLED * len(loader.rss_mb)) :]
    if len(settled) < MIN_POINTS:
        return None
    from scipy.stats import theilslopes

    slope, _, low, _ = (float(value) for value in theilslopes(settled))
    if low < MIN_MB or slope * len(settled) < MIN_GROWTH_MB:
        return None
    later = settled[len(settled) // 2 :]
    if float(theilslopes(later)[0]) < LASTING * slope:
        return None
    batch = config.batch.size if config is not None else loader.samples / len(loader.batch_s)
    epoch_mb = slope * profile.facts.samples / max(1.0, batch)
    title = (
        f"The loader holds {slope:.2f} MB more with every batch, {epoch_mb:.0f} MB an epoch, and "
        "does not give it back; look for lists or caches in dataset() and transforms() that grow."
    )
    evidence = {
        "mb_per_batch": slope,
        "mb_per_batch_at_least": low,
        "mb_per_epoch": epoch_mb,
        "batches": float(len(settled)),
        "resident_mb": settled[-1],
    }
    return Finding("leaking_loader", title, evidence, 0.0, 1.0, 1.0)
