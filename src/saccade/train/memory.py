"""What a training needs of memory, from a profile; all in 10^6 bytes."""

from __future__ import annotations

from saccade.train.change import TrainingContext
from saccade.train.config import TrainingConfig

# What is left of the activations where blocks are computed again: their inputs, and one block.
KEPT_ACTIVATIONS = 0.35
# 16-bit activations beside the fp32 ones that normalization and losses keep.
REDUCED_ACTIVATIONS = 0.6
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


def predicted_peak_mb(context: TrainingContext, after: TrainingConfig) -> float | None:
    """Peak memory under another configuration; None where activations were not measured.

    What grows with a batch is activations and the batch itself; all else stays.
    """
    parts = context.profile.memory_mb
    if "activations" not in parts:
        return None
    growing = parts["activations"] + parts.get("batch", 0.0)
    before = context.config
    activations = parts["activations"] * activation_ratio(before, after)
    batch = parts.get("batch", 0.0) * after.batch.size / before.batch.size
    return max(0.0, peak_mb(context) - growing) + activations + batch


def activation_ratio(before: TrainingConfig, after: TrainingConfig) -> float:
    """Activations under another configuration, relative to now."""
    return _activations(after) / _activations(before)


def _activations(config: TrainingConfig) -> float:
    kept = KEPT_ACTIVATIONS if config.compute.checkpointing else 1.0
    return (
        config.batch.size
        * kept
        * (1.0 if config.compute.precision == "fp32" else REDUCED_ACTIVATIONS)
    )


def is_short(context: TrainingContext) -> bool:
    """Whether memory is nearly used up, or a batch was divided to make it fit."""
    return context.config.batch.accumulation > 1 or peak_mb(context) > SHORT * capacity_mb(context)


def peak_shrinks(context: TrainingContext, after: TrainingConfig) -> dict[str, float]:
    """``Prediction.shrinks`` of peak memory; empty where it is not known."""
    found = predicted_peak_mb(context, after)
    if found is None:
        return {}
    metric = "peak_rss_mb" if context.profile.block.peak_device_mb is None else "peak_device_mb"
    return {metric: found / peak_mb(context)}
