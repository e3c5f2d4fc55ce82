"""MobileNetV2 from PyTorch: latency and size against eager fp32, and the drop of top-1."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

import saccade
from benchmarks.pairs import pooled_ratio, raced
from benchmarks.setting import Setting, bundle_of, note
from benchmarks.table import Row
from benchmarks.throughput import drop_row, wall_row
from benchmarks.weights import mobilenet_weights
from saccade.playbook.judge import config_at
from saccade.study import Study

NAME = "classification"
RATIO_BAR, SMALLER_BAR, DROP_BAR = 5.0, 3.3, 0.01
# The goal of size asks for a third of the 14 MB that the module has.
GOALS = ("latency_ms.p50<=3", "model_mb<=4.2", f"top1_drop<={DROP_BAR}")


def measure(setting: Setting) -> list[Row]:
    """Search, then race the bundle against the baseline again."""
    study = _study(setting)
    first, second = config_at(study.folder / "baseline.json"), config_at(bundle_of(study))
    source = str(_images(setting).parent)
    note("race: MobileNetV2 in eager PyTorch against bundle")
    pairs = raced(first, second, source, setting.sizes.block_s, setting.sizes.pairs)
    value, low, high = pooled_ratio(pairs, lambda ms: float(np.median(ms)))
    before, after = (np.concatenate([np.asarray(p[i].latency_ms) for p in pairs]) for i in (0, 1))
    stages = (
        float(np.median(np.concatenate([np.asarray(p[i].stage_ms["infer"]) for p in pairs])))
        for i in (0, 1)
    )
    infer = " -> ".join(f"{ms:.2f}" for ms in stages)
    return [
        Row(
            "MobileNetV2: median latency over eager PyTorch's, end to end",
            value,
            low,
            high,
            "x",
            RATIO_BAR,
            detail=f"{np.median(before):.2f} -> {np.median(after):.2f} ms, of which inference "
            f"{infer} ms",
        ),
        Row(
            "MobileNetV2: size over the module's",
            first.model.size_mb / second.model.size_mb,
            unit="x",
            bar=SMALLER_BAR,
            detail=f"{first.model.size_mb:.2f} -> {second.model.size_mb:.2f} MB",
        ),
        drop_row(study, "MobileNetV2: top-1 drop, bounded", GOALS[2]),
        wall_row(setting, study, NAME),
    ]


def _images(setting: Setting) -> Path:
    return setting.inputs.data.parents[1] / "imagenet" / "labels.csv"


def _study(setting: Setting) -> Study:
    if NAME not in setting.studies:
        note(f"saccade optimize ({NAME}, budget {setting.sizes.budget})")
        began = time.monotonic()
        setting.studies[NAME] = saccade.optimize(
            task="classification",
            model="torchvision:mobilenet_v2",
            weights=mobilenet_weights(),
            data=_images(setting),
            goals=GOALS,
            budget=setting.sizes.budget,
            out=setting.folder / NAME,
        )
        setting.wall_s[NAME] = time.monotonic() - began
    return setting.studies[NAME]
