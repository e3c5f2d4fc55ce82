"""Whether memory is short for a training, or more than a goal allows; all in 10^6 bytes."""

from __future__ import annotations

from collections.abc import Mapping

from saccade.goals import Goal
from saccade.train.change import TrainingContext
from saccade.train.records import TrainingBlock

# Above this share memory is short: fragmentation and other processes need the rest.
SHORT = 0.8
# Metrics of a training that say how much memory it needs.
PEAKS = ("peak_rss_mb", "peak_device_mb")
# Share of a step's peak that activations are taken for where nobody has looked, and the least that
# is left of a peak, however much is expected to be saved.
ACTIVATIONS_SHARE, LEAST_LEFT = 0.5, 0.1


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
    """Whether memory is nearly used up, a batch was divided to fit, or a goal asks for less."""
    full = peak_mb(context) > SHORT * capacity_mb(context)
    return context.config.batch.accumulation > 1 or full or is_missed(context, own_metric(context))


def own_metric(context: TrainingContext) -> str:
    """The metric of the memory where the model computes."""
    return "peak_device_mb" if context.config.compute.device.startswith("cuda") else "peak_rss_mb"


def peak_of(block: TrainingBlock, metric: str) -> float | None:
    """One of `PEAKS`, as a block has it; None where it was not measured."""
    return block.peak_rss_mb if metric == "peak_rss_mb" else block.peak_device_mb


def missed_goals(context: TrainingContext) -> tuple[Goal, ...]:
    """Goals on memory that the profiled configuration does not meet."""
    peaks = [(goal, peak_of(context.profile.block, goal.metric)) for goal in context.memory_goals]
    return tuple(goal for goal, peak in peaks if peak is not None and peak > goal.bound)


def is_missed(context: TrainingContext, metric: str) -> bool:
    """Whether a goal on that metric of memory is missed."""
    return any(goal.metric == metric for goal in missed_goals(context))


def activations_mb(context: TrainingContext) -> float:
    """What autograd keeps of a step."""
    seen = context.profile.memory_mb.get("activations")
    return ACTIVATIONS_SHARE * peak_mb(context) if seen is None else seen


def shrinking(
    context: TrainingContext, saved_mb: float, metric: str | None = None
) -> Mapping[str, float]:
    """`Prediction.shrinks` of a change that saves so much; below zero it takes more.

    Args:
        context: with the profile of the incumbent.
        saved_mb: of the peak.
        metric: of `PEAKS`; by default where the model computes.
    """
    name = metric or own_metric(context)
    peak = peak_of(context.profile.block, name)
    return {name: max(LEAST_LEFT, 1 - saved_mb / peak)} if peak else {}
