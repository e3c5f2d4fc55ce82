"""U-Net training on CamVid: samples per second over the plain script, at the same loss."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.setting import Setting, note
from benchmarks.table import Row
from saccade.playbook.training.optimize import optimize_training
from saccade.report.console import ConsoleProgress
from saccade.train.spec import make_training_spec

JOB = Path(__file__).parent / "jobs" / "unet_camvid.py"
RATIO_BAR, DRIFT_BAR = 5.0, 0.02
PAIR = {"autocast bf16", "channels_last"}


def measure(setting: Setting) -> list[Row]:
    """Search; the study's own final race and loss curves are the figures."""
    budget = setting.sizes.training_budget
    note(f"saccade train optimize (unet, budget {budget})")
    began = time.monotonic()
    spec = make_training_spec(
        {"job": str(JOB), "budget": budget, "goals": [f"loss_drift<={DRIFT_BAR}"]}
    )
    study = optimize_training(spec, setting.folder / "unet", ConsoleProgress())
    wall_s = time.monotonic() - began
    return [*_rows(study.result), Row("U-Net: wall time of the search", wall_s, unit=" s")]


def _rows(result: dict[str, Any]) -> list[Row]:
    best = result["best"] or {}
    before, after = result["baseline"]["metrics"], best.get("metrics", {})
    speedup = best.get("speedup") or {}
    low, high = speedup.get("interval") or (None, None)
    changes = "; ".join(best.get("changes", ())) or "nothing was kept"
    drift = (result.get("drift") or {}).get("loss") or {}
    return [
        Row(
            "U-Net: samples/s over the plain script",
            speedup.get("value"),
            low,
            high,
            "x",
            RATIO_BAR,
            detail=f"{before.get('samples_per_s') or 0:.2f} -> "
            f"{after.get('samples_per_s') or 0:.2f} samples/s: {changes}",
        ),
        Row(
            "U-Net: loss against the plain script's",
            drift.get("estimate"),
            drift.get("lower"),
            drift.get("upper"),
            bar=DRIFT_BAR,
            at_least=False,
            detail=f"relative, one-sided over {drift.get('seeds')} seeds",
        ),
        _pair_row(result),
    ]


def _pair_row(result: dict[str, Any]) -> Row:
    """How the two interact on this machine."""
    found = next((i for i in result["interactions"] if {i["first"], i["second"]} == PAIR), None)
    figure = "U-Net: channels_last and bf16, together over the product of each alone"
    if found is None:
        return Row(figure, None, detail="the pair was not measured")
    gains = [f"{found[key]:.2f}x" for key in ("gain_first", "gain_second", "gain_both")]
    detail = f"{found['first']} {gains[0]}, {found['second']} {gains[1]}, both {gains[2]}"
    return Row(figure, found["factor"], unit="x", detail=detail)
