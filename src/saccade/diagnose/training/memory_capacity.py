"""Rule: training nearly fills the memory of its device."""

from __future__ import annotations

from saccade.diagnose.records import Finding
from saccade.train.profile import TrainingProfile

HINTS = ("activation_checkpointing", "autocast", "fsdp")
LEAST = 0.85


def memory_capacity(profile: TrainingProfile) -> Finding | None:
    """Peak memory against what there is; it limits the batch rather than the step's time."""
    block = profile.block
    peak_mb = block.peak_rss_mb if block.peak_device_mb is None else block.peak_device_mb
    if profile.memory_limit_mb <= 0 or peak_mb < LEAST * profile.memory_limit_mb:
        return None
    largest = max(profile.memory_mb, key=lambda name: profile.memory_mb[name], default="")
    most = f", most of it {largest} ({profile.memory_mb[largest]:.0f} MB)" if largest else ""
    title = (
        f"Training takes {peak_mb:.0f} of {profile.memory_limit_mb:.0f} MB{most}; a larger batch "
        "does not fit."
    )
    evidence = {
        "peak_mb": peak_mb,
        "limit_mb": profile.memory_limit_mb,
        **{f"{name}_mb": value for name, value in profile.memory_mb.items()},
    }
    return Finding("memory_capacity", title, evidence, 0.0, 1.0, 1.0, HINTS)
