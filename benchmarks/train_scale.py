"""Scaling of a training: samples per second of two processes, predicted and achieved."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.setting import Setting, note
from benchmarks.table import Row
from saccade.optimize.training.scaling import measure_scaling
from saccade.report.console import ConsoleProgress
from saccade.train.config import TrainingConfig
from saccade.train.job import refer

JOB = Path(__file__).parent / "jobs" / "unet_camvid.py"
# As the job's own script has it.
BATCH = 8
PAIR = 2


def measure(setting: Setting) -> list[Row]:
    """One process and two on this machine's cores; several machines are told and not judged."""
    note("saccade train scale (unet)")
    config = TrainingConfig(refer(str(JOB))).with_batch(size=BATCH)
    report = measure_scaling(config, progress=ConsoleProgress())
    target = setting.folder / "scaling.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(report.document(), indent=1), encoding="utf-8")
    predicted = {p.world: p.samples_per_s for p in report.points if p.nodes == 1}
    achieved = report.achieved
    return [
        Row(
            "U-Net: predicted over achieved samples/s of two processes",
            predicted[PAIR] / achieved[PAIR],
            unit="x",
            detail=f"predicted {predicted[PAIR]:.2f}, achieved {achieved[PAIR]:.2f} samples/s; "
            f"averaging {report.model.gradients_mb:.1f} MB at {report.link.bandwidth_mbs:.0f} MB/s",
        ),
        Row(
            "U-Net: two processes over one on the same cores",
            achieved[PAIR] / achieved[1],
            unit="x",
            detail=f"{achieved[1]:.2f} -> {achieved[PAIR]:.2f} samples/s",
        ),
    ]
