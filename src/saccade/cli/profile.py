"""`saccade profile`: where the time goes."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict

import typer

from saccade.cli.common import (
    DEFAULT_OUT,
    AsJson,
    Data,
    Model,
    Out,
    Preprocess,
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

TOP = 10


def profile(
    spec_file: SpecFile = None,
    task: Task = None,
    model: Model = None,
    weights: Weights = None,
    data: Data = None,
    video: Video = None,
    preprocessor: Preprocess = None,
    out: Out = DEFAULT_OUT,
    as_json: AsJson = False,
) -> None:
    """Profile the naive pipeline by stage, operator and resource; write a Chrome trace.

    Example: saccade profile --model yolo11n.onnx --video street.mp4 --out runs/street
    """
    from saccade.playbook.partial import profile_and_diagnose
    from saccade.profile.operators import attained

    spec = spec_from(
        spec_file,
        task=task,
        model=model,
        weights=weights,
        data=data,
        video=video,
        preprocessor=preprocessor,
    )
    remember_folder(out)
    with closing(progress_for()) as progress:
        _, found, _ = profile_and_diagnose(spec, out, progress)
    if as_json:
        document = asdict(found)
        document.pop("spans")
        print_json(document)
        return
    stages = [
        (s.name, f"{s.wall_ms:.2f}", f"{s.cpu_ms:.2f}", f"{s.wall_ms / found.frame_ms:.0%}")
        for s in found.stages
    ]
    print_table("Stages", ("stage", "wall ms", "CPU ms", "share"), stages)
    rows = []
    for op in found.operators[:TOP]:
        roof = attained(op, found.roofline) if found.roofline else None
        reached = f"{roof.gflops:.0f} GFLOP/s, {roof.share_of_peak:.0%} of peak" if roof else ""
        rows.append((op.name, op.kind, f"{op.wall_ms:.3f}", op.precision, reached))
    print_table("Slowest operators", ("operator", "kind", "ms", "precision", "reached"), rows)
    slower = max(0.0, found.overhead)
    print(f"profiling made inference {slower:.0%} slower; none of this is a measurement")
    print(f"trace  {out / 'trace.json'} (open it in https://ui.perfetto.dev)")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(profile)
