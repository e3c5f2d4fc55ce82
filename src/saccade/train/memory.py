"""Whether memory is short for a training, from a profile; all in 10^6 bytes."""

from __future__ import annotations

from saccade.train.change import TrainingContext

# Above this share memory is short: fragmentation and other processes need the rest.
SHORT = 0.8


def peak_mb(context: TrainingContext) -> float:
    """Highest memory so far, where the model computes."""
    block = context.profile.block
    return block.peak_rss_mb if block.peak_device_mb is None else block.peak_device_mb


def capacity_mb(context: TrainingContext) -> float:
    """Memory that there is, where the model computes."""
    if context.config.compute.device.startswith("cuda"):
        return context.machine.gpu_memory_mb
    return context.machine.free_memory_mb


def is_short(context: TrainingContext) -> bool:
    """Whether memory is nearly used up, or a batch was divided to make it fit."""
    return context.config.batch.accumulation > 1 or peak_mb(context) > SHORT * capacity_mb(context)
