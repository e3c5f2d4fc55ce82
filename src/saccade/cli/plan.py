"""`saccade plan`: what would be tried, in which order."""

from __future__ import annotations

from contextlib import closing

import typer

from saccade.cli.common import (
    DEFAULT_OUT,
    AsJson,
    Data,
    Goals,
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


def plan(
    spec_file: SpecFile = None,
    task: Task = None,
    model: Model = None,
    weights: Weights = None,
    data: Data = None,
    video: Video = None,
    goal: Goals = None,
    out: Out = DEFAULT_OUT,
    as_json: AsJson = False,
) -> None:
    """Rank the changes that apply to the naive pipeline by predicted gain over cost.

    Example: saccade plan --model yolo11n.onnx --video street.mp4 --out runs/street
    """
    from saccade.playbook.partial import plan_only

    spec = spec_from(
        spec_file, task=task, model=model, weights=weights, data=data, video=video, goals=goal
    )
    remember_folder(out)
    with closing(progress_for()) as progress:
        found = plan_only(spec, out, progress)
    if as_json:
        print_json(found.document())
        return
    rows = [
        (
            c.change.label,
            f"{c.prediction.gain:.2f}x",
            f"{c.prediction.bound:.2f}x",
            c.change.effect,
            c.prediction.basis,
        )
        for c in found.candidates
    ]
    columns = ("change", "predicted", "at most", "effect on results", "basis")
    print_table("Plan, most promising first", columns, rows)
    print_table("Does not apply now", ("change", "reason"), list(found.inapplicable))


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(plan)
