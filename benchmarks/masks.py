"""YOLO11n with masks: after the search, decoding them is none of the three largest costs."""

from __future__ import annotations

from pathlib import Path

from benchmarks.pairs import median, raced
from benchmarks.setting import Setting, bundle_of, note
from benchmarks.table import Row
from benchmarks.throughput import drop_row, wall_row
from saccade.data.open import open_labelled
from saccade.pipeline.config import PipelineConfig
from saccade.playbook.judge import config_at
from saccade.profile.profiler import Profiler
from saccade.statistics import ratio_of_blocks
from saccade.testing.sample_segments import write_segments
from saccade.testing.yolo_seg_fit import write_yolo11n_seg

TASK = "instance_segmentation"
GOALS = ("throughput_fps>=60", "mask_map50_95_drop<=0.02")
# Fourth or later among decode, preprocess, infer, boxes and masks.
RANK_BAR = 4
PROFILED_FRAMES = 60


def measure(setting: Setting) -> list[Row]:
    """Search, profile what was there before and after, and race both again."""
    folder = setting.folder / "masks-inputs"
    data = write_segments(setting.inputs.data.parent, folder / "data")
    model = _model(setting, data, folder / "yolo11n-seg.onnx")
    study = setting.study("masks", model, GOALS, task=TASK, data=data)
    baseline = config_at(study.folder / "baseline.json")
    best = config_at(bundle_of(study))
    note("profile: baseline and bundle")
    before, after = (_costs(config, setting) for config in (baseline, best))
    return [
        Row(
            "mask decoding, its place among the costs of a frame",
            float(_place(after)),
            bar=RANK_BAR,
            detail=f"before: {_told(before)}; after: {_told(after)}",
        ),
        Row(
            "mask decoding, times as fast",
            before["masks"] / after["masks"] if after["masks"] else None,
            unit="x",
            detail="profiled, not raced",
        ),
        _ratio_row(setting, baseline, best),
        drop_row(study, "mask mAP50-95 drop, bounded", GOALS[1]),
        wall_row(setting, study, "masks"),
    ]


def _model(setting: Setting, data: Path, target: Path) -> Path:
    splits = open_labelled(data, None, TASK)
    assert splits.train is not None
    note("YOLO11n with mask branches, fitted to the calibration images")
    return write_yolo11n_seg(setting.inputs.model, splits.train, target)


def _costs(config: PipelineConfig, setting: Setting) -> dict[str, float]:
    """Milliseconds per frame, stages one after the other, postprocessing in two parts."""
    profiler = Profiler(str(setting.inputs.video), PROFILED_FRAMES)
    profile = profiler.profile(config, operators=False)
    costs = {stage.name: stage.wall_ms for stage in profile.stages}
    masks = profile.extra["masks_ms"]
    boxes = costs.pop("postprocess") - masks
    return {**costs, "boxes": boxes, "masks": masks}


def _place(costs: dict[str, float]) -> int:
    """1 for the largest cost."""
    return sorted(costs, key=lambda name: -costs[name]).index("masks") + 1


def _told(costs: dict[str, float]) -> str:
    ordered = sorted(costs.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {ms:.2f} ms" for name, ms in ordered)


def _ratio_row(setting: Setting, baseline: PipelineConfig, best: PipelineConfig) -> Row:
    source = str(setting.inputs.video)
    note("race: baseline against bundle")
    pairs = raced(baseline, best, source, setting.sizes.block_s, setting.sizes.pairs)
    slow, fast = [a.fps for a, _ in pairs], [b.fps for _, b in pairs]
    ratio = ratio_of_blocks(fast, slow)
    return Row(
        "instance segmentation: end-to-end throughput over its baseline",
        ratio.value,
        ratio.interval.low,
        ratio.interval.high,
        "x",
        1.0,
        detail=f"{median(slow):.1f} -> {median(fast):.1f} FPS, {ratio.pairs} interleaved pairs",
    )
