"""The same job with a latency goal instead: how much better the p99 of single frames gets."""

from __future__ import annotations

import numpy as np

from benchmarks.pairs import alternate, pooled_ratio
from benchmarks.setting import LATENCY_GOALS, Setting, bundle_of, note
from benchmarks.table import Row
from benchmarks.throughput import drop_row, wall_row
from saccade.measurement import Block
from saccade.optimize.race import Runner
from saccade.playbook.judge import config_at
from saccade.statistics import percentile

BAR = 2.5


def measure(setting: Setting) -> list[Row]:
    """Search, then measure both p99 in interleaved blocks."""
    study = setting.study("latency", setting.inputs.model, LATENCY_GOALS)
    source = str(setting.inputs.video)
    baseline = Runner(config_at(study.folder / "baseline.json"), source)
    try:
        best = Runner(config_at(bundle_of(study)), source)
        try:
            note("race: latency of baseline and bundle")
            frames = max(40, baseline.frames_for(setting.sizes.block_s))
            pairs = alternate(baseline, best, frames, setting.sizes.pairs)
        finally:
            best.close()
    finally:
        baseline.close()
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
            f"{after[0]:.1f} ms, {frames * len(pairs)} frames each",
        ),
        drop_row(study, "mAP50-95 drop, bounded (latency)"),
        wall_row(setting, study, "latency"),
    ]


def _quantiles(blocks: list[Block]) -> tuple[float, float]:
    pooled = np.concatenate([np.asarray(block.latency_ms) for block in blocks])
    return float(np.median(pooled)), percentile(pooled.tolist(), 99)
