"""ESPNet on CamVid: throughput over ONNX Runtime fp32, the bounded drop of mIoU, and the argmax."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import saccade
from benchmarks.pairs import Pair, median, raced
from benchmarks.setting import Setting, bundle_of, note
from benchmarks.table import Row
from benchmarks.throughput import wall_row
from saccade.playbook.judge import config_at
from saccade.statistics import ratio_of_blocks
from saccade.study import Study

NAME = "segmentation"
RATIO_BAR = 2.5
DROP_BAR = 0.01
GOALS = ("throughput_fps>=60", f"miou_drop<={DROP_BAR}")
# The sample data's README: ((x - mean) / std) / 255 on BGR pixels.
OVERRIDES: dict[str, Any] = {
    "channel_order": "bgr",
    "scale": 1.0,
    "mean": [110.33, 108.41, 105.03],
    "std": [18393.15, 18535.95, 17824.5],
}


def measure(setting: Setting) -> list[Row]:
    """Search, then race the bundle against the baseline again."""
    study = _study(setting)
    source = str(_camvid(setting) / "val")
    note("race: ESPNet baseline against bundle")
    pairs = raced(
        config_at(study.folder / "baseline.json"),
        config_at(bundle_of(study)),
        source,
        setting.sizes.block_s,
        setting.sizes.pairs,
    )
    return [
        _ratio_row(pairs),
        _drop_row(study),
        _postprocess_row(pairs),
        wall_row(setting, study, NAME),
    ]


def _camvid(setting: Setting) -> Path:
    return setting.inputs.data.parents[1] / "camvid"


def _study(setting: Setting) -> Study:
    model = setting.inputs.yolox.with_name("espnet_camvid_360x480.onnx")
    note(f"saccade optimize ({NAME}, budget {setting.sizes.budget})")
    began = time.monotonic()
    study: Study = saccade.optimize(
        task="segmentation",
        model=model,
        data=_camvid(setting),
        goals=GOALS,
        overrides=OVERRIDES,
        budget=setting.sizes.budget,
        out=setting.folder / NAME,
    )
    setting.wall_s[NAME] = time.monotonic() - began
    return study


def _ratio_row(pairs: list[Pair]) -> Row:
    before, after = [a.fps for a, _ in pairs], [b.fps for _, b in pairs]
    ratio = ratio_of_blocks(after, before)
    return Row(
        "ESPNet: end-to-end throughput over its baseline",
        ratio.value,
        ratio.interval.low,
        ratio.interval.high,
        "x",
        RATIO_BAR,
        detail=f"{median(before):.1f} -> {median(after):.1f} FPS, {len(pairs)} interleaved pairs",
    )


def _drop_row(study: Study) -> Row:
    best = study.best or {}
    drop = best.get("drop")
    figure = "mIoU drop, bounded (ESPNet)"
    if not drop or drop["metric"] != "miou":
        return Row(figure, None, bar=DROP_BAR, at_least=False, detail="not judged")
    return Row(
        figure,
        drop["estimate"],
        drop["lower"],
        drop["upper"],
        bar=DROP_BAR,
        at_least=False,
        detail=f"one-sided at {drop['level']:.2%} on {drop['images']} images: "
        + "; ".join(best["changes"]),
    )


def _postprocess_row(pairs: list[Pair]) -> Row:
    before, after = (
        median([median(list(block.stage_ms["postprocess"])) for block in side])
        for side in zip(*pairs, strict=True)
    )
    return Row(
        "ESPNet: choosing the class per pixel, of a frame",
        after,
        unit=" ms",
        detail=f"the baseline: {before:.2f} ms",
    )
