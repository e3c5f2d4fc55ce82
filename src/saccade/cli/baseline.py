"""`saccade baseline`: measure the naive pipeline."""

from __future__ import annotations

from contextlib import closing

import typer

from saccade.cli.common import (
    DEFAULT_OUT,
    AsJson,
    Data,
    Model,
    Out,
    SpecFile,
    Task,
    Video,
    Weights,
    print_json,
    print_table,
    progress_for,
    remember_folder,
    spec_from,
)


def baseline(
    spec_file: SpecFile = None,
    task: Task = None,
    model: Model = None,
    weights: Weights = None,
    data: Data = None,
    video: Video = None,
    out: Out = DEFAULT_OUT,
    as_json: AsJson = False,
) -> None:
    """Measure the naive pipeline: latency percentiles, FPS, CPU time, memory, stages, accuracy.

    Example: saccade baseline --model yolo11n.onnx --video street.mp4 --out runs/street
    """
    from saccade.playbook.partial import baseline_only, baseline_report

    spec = spec_from(spec_file, task=task, model=model, weights=weights, data=data, video=video)
    remember_folder(out)
    with closing(progress_for()) as progress:
        measured, accuracy = baseline_only(spec, out, progress)
    report = baseline_report(measured, accuracy)
    if as_json:
        print_json(report)
        return
    rows = [
        (name, "too few frames" if item["value"] is None else f"{item['value']:.3f}")
        for name, item in report["metrics"].items()
    ]
    rows += [(f"{name} (wall ms)", f"{value:.2f}") for name, value in report["stages_ms"].items()]
    print_table("Baseline", ("metric", "value"), rows)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(baseline)
