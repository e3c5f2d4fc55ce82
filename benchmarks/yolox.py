"""The same command on YOLOX-nano, whose preprocessing and decode differ."""

from __future__ import annotations

from benchmarks.pairs import median, raced
from benchmarks.setting import THROUGHPUT_GOALS, Setting, bundle_of, note
from benchmarks.table import Row
from benchmarks.throughput import drop_row, wall_row
from saccade.pipeline.config import PipelineConfig
from saccade.playbook.judge import config_at
from saccade.statistics import ratio_of_blocks


def measure(setting: Setting) -> list[Row]:
    """Search, then race again; there is no bar but a bundle that is faster and as accurate."""
    study = setting.study("yolox", setting.inputs.yolox, THROUGHPUT_GOALS)
    baseline = config_at(study.folder / "baseline.json")
    best = config_at(bundle_of(study))
    note("race: YOLOX-nano baseline against bundle")
    return [
        _ratio_row(setting, baseline, best),
        drop_row(study, "mAP50-95 drop, bounded (YOLOX-nano)"),
        wall_row(setting, study, "yolox"),
    ]


def _ratio_row(setting: Setting, baseline: PipelineConfig, best: PipelineConfig) -> Row:
    source = str(setting.inputs.video)
    pairs = raced(baseline, best, source, setting.sizes.block_s, setting.sizes.pairs)
    before, after = [a.fps for a, _ in pairs], [b.fps for _, b in pairs]
    ratio = ratio_of_blocks(after, before)
    return Row(
        "YOLOX-nano: end-to-end throughput over its baseline",
        ratio.value,
        ratio.interval.low,
        ratio.interval.high,
        "x",
        1.0,
        detail=f"{median(before):.1f} -> {median(after):.1f} FPS, {len(pairs)} interleaved pairs",
    )
