"""Measures the figures and prints one table: `python -m benchmarks.run [FIGURE ...]`."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import psutil

from benchmarks.setting import QUICK, REPOSITORY, Inputs, Setting, Sizes, note
from benchmarks.table import Row, print_table
from saccade.environment import detect

# In this order: what shares a run comes after the run, and a hot machine does not favour ours.
FIGURES = (
    "throughput",
    "rivals",
    "latency",
    "memory",
    "accuracy",
    "yolox",
    "classification",
    "masks",
    "segmentation",
    "tracking",
    "mobile",
    "noise",
    "planted",
    "repair",
    "quantizers",
    "pruning",
    "unet",
    "unet_gpu",
    "train_scale",
    "train_kill",
    "loader",
    "train_overhead",
)
BUSY_WARNING = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 where every bar was reached, 3 where one was not."""
    options = _parse(arguments)
    quick = os.environ.get("SACCADE_BENCH_QUICK") == "1"
    stamp = datetime.now().strftime("%Y-%m-%d-%H%M%S")
    here = REPOSITORY / "benchmarks"
    setting = Setting(
        Inputs.find(), QUICK if quick else Sizes(), here / "runs" / stamp, options.run
    )
    busy = psutil.cpu_percent(interval=1.0)
    if busy > BUSY_WARNING:
        note(f"this machine is {busy:.0f}% busy with something else; figures will be too low")
    rows: list[Row] = []
    began = time.monotonic()
    for name in options.figures:
        rows += measured(name, setting)
    target = here / "results" / f"{stamp}.json"
    environment = detect()
    document = {
        "schema_version": 1,
        "quick": quick,
        "environment": environment.to_dict(),
        "busy_before_percent": busy,
        "sizes": asdict(setting.sizes),
        "wall_s": time.monotonic() - began,
        "rows": [row.document() for row in rows],
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    title = f"saccade on {environment.cpu_model}, {environment.cores} cores"
    warning = f"; {busy:.0f}% busy before it began" if busy > BUSY_WARNING else ""
    print_table(rows, f"{title}{' (quick: figures mean nothing)' if quick else ''}{warning}")
    note(f"written to {target.relative_to(REPOSITORY)}")
    return 0 if all(row.reached in ("yes", "-") for row in rows) else 3


def measured(name: str, setting: Setting) -> list[Row]:
    """Rows of one benchmark; one that fails says so in its row and does not end the others."""
    note(f"== {name}")
    try:
        rows: list[Row] = importlib.import_module(f"benchmarks.{name}").measure(setting)
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return [Row(name, None, detail=f"failed: {reason[:300]}")]
    for row in rows:
        note(" | ".join(row.cells()))
    return rows


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=", ".join(FIGURES))
    parser.add_argument(
        "--run", type=Path, help="use the bundle of this finished run instead of searching for one"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.figures if name not in FIGURES]
    if unknown:
        parser.error(f"unknown figure '{unknown[0]}'; known: {', '.join(FIGURES)}")
    options.figures = options.figures or list(FIGURES)
    return options


if __name__ == "__main__":
    sys.exit(main())
