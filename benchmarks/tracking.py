"""Tracking on PETS09-S2L1: throughput over the baseline, what it costs in HOTA, and frame skipping.

HOTA is TrackEval's on the last half of the sequence, which the search did not see. What skipping
every second frame would bring and cost is shown beside, whether the search kept it or not.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.pairs import alternate, median
from benchmarks.setting import Setting, bundle_of, note
from benchmarks.table import Row
from saccade.data.contract import Dataset
from saccade.data.counted import only_classes
from saccade.data.open import open_labelled
from saccade.data.roles import split_roles
from saccade.optimize.race import Runner
from saccade.pipeline.config import PipelineConfig
from saccade.playbook.judge import config_at
from saccade.statistics import ratio_of_blocks
from saccade.study import Study
from saccade.validate.blocks import unit_weights
from saccade.validate.contract import Scored
from saccade.validate.drop_bound import DropBound, paired_drop
from saccade.validate.referee import judge_of, results_on

RATIO_BAR = 2.5
DROP_BAR = 0.01
METRICS = {"hota": "HOTA", "mota": "MOTA", "idf1": "IDF1"}


def measure(setting: Setting) -> list[Row]:
    """Search, then race and judge again, after the search is over."""
    study = setting.tracking()
    baseline = config_at(study.folder / "baseline.json")
    best = config_at(bundle_of(study))
    report = _report(setting.inputs.tracks, baseline)
    weights = unit_weights(report)
    before = _judged(setting, baseline, report, weights)
    after = _judged(setting, best, report, weights)
    skipping = replace(best, detect_every=2)
    skipped = _judged(setting, skipping, report, weights)
    rows = [_ratio_row(setting, baseline, best, "tracking: end-to-end throughput", RATIO_BAR)]
    rows += [_drop_row(before, after, name, "tracking", study) for name in METRICS]
    rows.append(_ratio_row(setting, best, skipping, "tracking: 1 frame in 2, over the bundle"))
    rows.append(_drop_row(before, skipped, "hota", "tracking, 1 frame in 2", None))
    return rows


def _report(tracks: Path, config: PipelineConfig) -> Dataset:
    splits = open_labelled(tracks, config.description.class_names, config.task)
    report = split_roles(only_classes(splits, config.classes)).report
    assert report is not None
    return report


def _judged(setting: Setting, config: PipelineConfig, report: Dataset, weights: Any) -> Scored:
    note(f"tracks of {len(report)} frames, looking at 1 in {config.detect_every}")
    runner = Runner(config, str(setting.inputs.tracks_video))
    try:
        return judge_of(runner).scored(report, results_on(runner, report), weights)
    finally:
        runner.close()


def _ratio_row(
    setting: Setting,
    first: PipelineConfig,
    second: PipelineConfig,
    figure: str,
    bar: float | None = None,
) -> Row:
    source = str(setting.inputs.tracks_video)
    a = Runner(first, source)
    try:
        b = Runner(second, source)
        try:
            pairs = alternate(a, b, a.frames_for(setting.sizes.block_s), setting.sizes.pairs)
        finally:
            b.close()
    finally:
        a.close()
    before, after = [x.fps for x, _ in pairs], [y.fps for _, y in pairs]
    ratio = ratio_of_blocks(after, before)
    detail = f"{median(before):.1f} -> {median(after):.1f} FPS, {ratio.pairs} interleaved pairs"
    low, high = ratio.interval.low, ratio.interval.high
    return Row(figure, ratio.value, low, high, "x", bar, detail=detail)


def _drop_row(before: Scored, after: Scored, name: str, figure: str, study: Study | None) -> Row:
    drop: DropBound = paired_drop(before.metrics[name], after.metrics[name])
    changes = "; ".join(study.best["changes"]) if study is not None and study.best else ""
    values = f"{before.values[name]:.3f} -> {after.values[name]:.3f}"
    return Row(
        f"{figure}: {METRICS[name]} drop on unseen frames",
        drop.estimate,
        drop.lower,
        drop.upper,
        bar=DROP_BAR if name == "hota" and study is not None else None,
        at_least=False,
        detail=f"{values}, one-sided at 95%{': ' if changes else ''}{changes}",
    )
