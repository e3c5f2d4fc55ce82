"""The same job with a latency goal instead: how much better the p99 of single frames gets."""

from __future__ import annotations

import numpy as np

from benchmarks.pairs import pooled_ratio, raced
from benchmarks.setting import LATENCY_GOALS, Setting, bundle_of, note
from benchmarks.table import Row
from benchmarks.throughput import drop_row, wall_row
from saccade.measurement import Block
from saccade.playbook.judge import config_at
from saccade.statistics import percentile

BAR = 2.5


def measure(setting: Setting) -> list[Row]:
    """Search, then measure both p99 in interleaved blocks."""
    study = setting.study("latency", setting.inputs.model, LATENCY_GOALS)
    source = str(setting.inputs.video)
    note("race: latency of baseline and bundle")
    pairs = raced(
        config_at(study.folder / "baseline.json"),
        config_at(bundle_of(study)),
        source,
        setting.sizes.block_s,
        setting.sizes.pairs,
    )
    value, low, high = pooled_ratio(pairs, lambda ms: percentile(ms.tolist(), 99))
    before, after = _quantiles([a for a, _ in pairs]), _quantiles([b for _, b in pairs])
    return [
        Row(
            "single-frame latency p99 over the baseline's",
            value,
            low,
            high,
            "x",
            BAR,
            detail=f"p99 {before[1]:.1f} -> {after[1]:.1f} ms, median {before[0]:.1f} -> "
            f"{after[0]:.1f} ms, {sum(len(a.latency_ms) for a, _ in pairs)} frames each",
        ),
        drop_row(study, "mAP50-95 drop, bounded (latency)"),
        wall_row(setting, study, "latency"),
    ]


def _quantiles(blocks: list[Block]) -> tuple[float, float]:
    pooled = np.concatenate([np.asarray(block.latency_ms) for block in blocks])
    return float(np.median(pooled)), percentile(pooled.tolist(), 99)
