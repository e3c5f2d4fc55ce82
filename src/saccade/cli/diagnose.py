"""`saccade diagnose`: name the bottlenecks."""

from __future__ import annotations

from contextlib import closing

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


def diagnose(
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
    """Profile and name the bottlenecks, with evidence and what removing each gains at most.

    Example: saccade diagnose --model yolo11n.onnx --video street.mp4 --out runs/street
    """
    from saccade.diagnose.diagnose import findings_document
    from saccade.playbook.partial import profile_and_diagnose

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
        _, _, findings = profile_and_diagnose(spec, out, progress)
    if as_json:
        print_json(findings_document(findings))
        return
    rows = [
        (
            f.name,
            f"{f.share:.0%}",
            f"{f.max_gain_sequential:.2f}x",
            f"{f.max_gain_pipelined:.2f}x",
            f.title,
        )
        for f in findings
    ]
    columns = ("bottleneck", "share", "gain at most", "if pipelined", "evidence")
    print_table("Bottlenecks", columns, rows)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(diagnose)
