"""Blocks of steps that follow each other in one process, as one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from saccade.train.records import TrainingBlock
from saccade.train.samples import LoadTimes


def joined_blocks(blocks: Sequence[TrainingBlock]) -> TrainingBlock:
    """The same steps as one block; shares are means over the time.

    Args:
        blocks: at least one, of one configuration, in their order.
    """
    first, last = blocks[0], blocks[-1]
    parts = {
        part: tuple(s for block in blocks for s in block.part_s[part]) for part in first.part_s
    }
    load = {
        field.name: sum(getattr(block.load, field.name) for block in blocks)
        for field in fields(LoadTimes)
    }
    gpu = [(b.device_busy_share, b.wall_s) for b in blocks if b.device_busy_share is not None]
    return replace(
        first,
        step_s=tuple(s for block in blocks for s in block.step_s),
        part_s=parts,
        losses=tuple(loss for block in blocks for loss in block.losses),
        samples=sum(block.samples for block in blocks),
        cpu_s=sum(block.cpu_s for block in blocks),
        kernel_s=sum(block.kernel_s for block in blocks),
        page_faults=sum(block.page_faults for block in blocks),
        output_s=sum(block.output_s for block in blocks),
        busy_share=_mean([(block.busy_share, block.wall_s) for block in blocks]),
        device_busy_share=_mean(gpu) if gpu else None,
        peak_rss_mb=max(block.peak_rss_mb for block in blocks),
        peak_device_mb=last.peak_device_mb,
        load=LoadTimes(**load),
        corrupt=sum(block.corrupt for block in blocks),
    )


def _mean(weighted: Sequence[tuple[float, float]]) -> float:
    """Of values with their weights."""
    whole = sum(weight for _, weight in weighted)
    if whole <= 0:
        return weighted[0][0]
    return sum(value * weight for value, weight in weighted) / whole
