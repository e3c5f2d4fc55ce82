"""`saccade plan`: what would be tried, in which order."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import typer

from saccade.cli.common import (
    DEFAULT_OUT,
    AsJson,
    Candidates,
    Data,
    Goals,
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
    print_json,
    print_table,
    progress_for,
    remember_folder,
    spec_from,
)
from saccade.spec import Spec
from saccade.targets.read import is_here


def plan(
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
    preprocessor: Preprocess = None,
    out: Out = DEFAULT_OUT,
    as_json: AsJson = False,
) -> None:
    """Rank the changes that apply to the naive pipeline by predicted gain over cost.

    For a target that is not this machine: what its runtimes take, memory, and bounds (estimates).

    Example: saccade plan --model yolo11n.onnx --video street.mp4 --out runs/street
    """
    from saccade.playbook.partial import plan_only

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
        runtimes=runtime,
        candidates=candidates,
        students=students,
        preprocessor=preprocessor,
    )
    remember_folder(out)
    if not is_here(spec.target):
        _estimate(spec, out, as_json)
        return
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


def _estimate(spec: Spec, out: Path, as_json: bool) -> None:
    """Print what can be said about a target that is not at hand."""
    from saccade.playbook.partial import estimate_only

    found = estimate_only(spec, out)
    if as_json:
        print_json(found)
        return
    columns = ("runtime", "precision", "runs", "memory", "at least", "unfused")
    own = [("", entry) for entry in found["candidates"]]
    others = [
        (f"{name}: ", entry)
        for name, other in found["others"].items()
        for entry in other["candidates"]
    ]
    rows = [
        (
            f"{model}{c['runtime']}",
            c["precision"],
            c["legality"] if c["usable"] else "no",
            f"{c['memory']['weights_mb'] + c['memory']['activations_mb']:.1f} MB",
            milliseconds(c["latency_bound_ms"]),
            milliseconds(c["latency_unfused_ms"]),
        )
        for model, c in (*own, *others)
    ]
    print_table(f"Estimates for {found['target']}, not verified on hardware", columns, rows)
    notes = [
        (f"{c['runtime']} {c['precision']}", "; ".join(c["reasons"]))
        for c in found["candidates"]
        if c["reasons"]
    ]
    print_table("Notes", ("", ""), notes)
    print_table("Left out", ("what", "reason"), [tuple(pair) for pair in found["left_out"]])
    print(
        "'at least' is a bound from the data sheet's peak rates, 'unfused' the same operator by "
        "operator. Nothing was measured; `saccade export --kit` makes what measures it there."
    )
    print_table("Know about this target", ("",), [(text,) for text in found["constraints"]])


def milliseconds(value: float | None) -> str:
    """A bound with its unit and its nature."""
    return f"{value:.2f} ms (est.)" if value is not None else ""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(plan)
