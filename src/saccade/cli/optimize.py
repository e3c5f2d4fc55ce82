"""`saccade optimize`: the whole playbook."""

from __future__ import annotations

from contextlib import closing

import typer

from saccade.cli.common import (
    DEFAULT_OUT,
    EXIT_OF,
    Also,
    AsJson,
    Budget,
    Candidates,
    Data,
    Goals,
    KitFolder,
    MeasurementsFile,
    Model,
    Out,
    Preprocess,
    Runtimes,
    Scenario,
    SpecFile,
    Students,
    Target,
    Task,
    Video,
    Weights,
    check_measured,
    print_json,
    progress_for,
    remember_folder,
    spec_from,
)
from saccade.study import Study


def optimize(
    spec_file: SpecFile = None,
    task: Task = None,
    model: Model = None,
    weights: Weights = None,
    data: Data = None,
    video: Video = None,
    target: Target = None,
    runtime: Runtimes = None,
    goal: Goals = None,
    scenario: Scenario = None,
    candidates: Candidates = None,
    students: Students = None,
    also: Also = None,
    preprocessor: Preprocess = None,
    budget: Budget = None,
    measurements: MeasurementsFile = None,
    kit: KitFolder = None,
    out: Out = DEFAULT_OUT,
    as_json: AsJson = False,
) -> None:
    """Carry out the whole playbook and write a bundle that runs.

    For a target that is not this machine: estimates, a kit to measure there (OUT/kit), and exit
    code 4 for goals of speed; with --measurements, the best candidate by what the device measured.
    With --also (or 'also' in the spec) a second model on the same frames is optimized too, and then
    what both can share.

    Example:
    saccade optimize --model yolo11n.onnx --data data.yaml --video street.mp4
    --goal 'throughput_fps>=60' --goal 'map50_95_drop<=0.01' --budget 5m --out runs/street
    """
    from saccade.playbook.optimize import optimize as carry_out

    check_measured(kit, measurements)
    spec = spec_from(
        spec_file,
        task=task,
        model=model,
        weights=weights,
        data=data,
        video=video,
        target=target,
        goals=goal,
        scenario=scenario,
        budget=budget,
        candidates=candidates,
        students=students,
        also=also,
        preprocessor=preprocessor,
        runtimes=runtime,
    )
    remember_folder(out)
    with closing(progress_for()) as progress:
        study = carry_out(spec, out, progress, measurements, kit)
    finish(study, as_json)


def finish(study: Study, as_json: bool) -> None:
    """Print the outcome and leave with its exit code."""
    if as_json:
        print_json(study.result)
    else:
        from rich.console import Console

        from saccade.report.console import summary

        summary(study.result, Console(), report=str(study.folder / "report.html"))
    raise typer.Exit(EXIT_OF[study.status])


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(optimize)
