"""U-Net training on CamVid on this machine's GPU: how busy it is, how much faster, as predicted?

Told apart from the CPU's figures: without a GPU its rows say so and count for nothing. Not
verified on hardware: no GPU was at hand in this project.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from benchmarks.setting import Setting, note
from benchmarks.table import Row
from benchmarks.unet import DRIFT_BAR, JOB
from saccade.playbook.training.optimize import optimize_training
from saccade.report.console import ConsoleProgress
from saccade.train.spec import make_training_spec

BUSY_BAR, RATIO_BAR, PREDICTION_BAR = 0.95, 3.0, 0.25
BUSY = "U-Net on the GPU: share of the time that it is busy"
RATIO = "U-Net on the GPU: samples/s over eager fp32"
PREDICTION = "U-Net on the GPU: predicted against achieved"
NO_GPU = "no GPU here"


def measure(setting: Setting) -> list[Row]:
    """Search on the GPU; the study's own final race and kept changes are the figures."""
    if not _has_gpu():
        return absent_rows()
    budget = setting.sizes.training_budget
    note(f"saccade train optimize (unet on the GPU, budget {budget})")
    began = time.monotonic()
    spec = make_training_spec(
        {
            "job": str(JOB),
            "device": "cuda",
            "budget": budget,
            "goals": [f"loss_drift<={DRIFT_BAR}"],
        }
    )
    study = optimize_training(spec, setting.folder / "unet-gpu", ConsoleProgress())
    wall_s = time.monotonic() - began
    wall = Row("U-Net on the GPU: wall time of the search", wall_s, unit=" s")
    return [*rows_of(study.result), wall]


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def absent_rows() -> list[Row]:
    """The figures of a machine that has none of them."""
    return [
        Row(BUSY, None, bar=BUSY_BAR, applies=False, detail=NO_GPU),
        Row(RATIO, None, unit="x", bar=RATIO_BAR, applies=False, detail=NO_GPU),
        Row(PREDICTION, None, bar=PREDICTION_BAR, at_least=False, applies=False, detail=NO_GPU),
    ]


def rows_of(result: Mapping[str, Any]) -> list[Row]:
    """The figures in the result of a search on the GPU."""
    best = result["best"] or {}
    speedup = best.get("speedup") or {}
    low, high = speedup.get("interval") or (None, None)
    before = result["baseline"]["metrics"].get("device_busy_share")
    after = best.get("metrics", {}).get("device_busy_share")
    shares = [s for s in best.get("resources", {}).get("device_busy_share", ()) if s is not None]
    changes = "; ".join(best.get("changes", ())) or "nothing was kept"
    return [
        Row(
            BUSY,
            after,
            min(shares, default=None),
            max(shares, default=None),
            bar=BUSY_BAR,
            detail="before: not known" if before is None else f"before: {before:.2f}",
        ),
        Row(RATIO, speedup.get("value"), low, high, "x", RATIO_BAR, detail=changes),
        *_prediction_rows(result["kept"]),
    ]


def _prediction_rows(kept: list[dict[str, Any]]) -> list[Row]:
    """For each kept change, how far off its predicted gain was, as a share of the achieved."""
    rows = []
    for entry in kept:
        predicted, achieved = entry["predicted_gain"], entry["achieved_gain"]
        known = f"{achieved:.2f}x" if achieved is not None else "not measured"
        rows.append(
            Row(
                f"{PREDICTION}, {entry['change']}",
                abs(predicted / achieved - 1) if achieved else None,
                bar=PREDICTION_BAR,
                at_least=False,
                detail=f"predicted {predicted:.2f}x ({entry['prediction_basis']}), "
                f"achieved {known}",
            )
        )
    return rows or [
        Row(PREDICTION, None, bar=PREDICTION_BAR, at_least=False, detail="nothing was kept")
    ]
