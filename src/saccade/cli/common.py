"""Options that several verbs share, and the two ways of printing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from saccade.errors import EXIT_INCONCLUSIVE, EXIT_MET, EXIT_NOT_MET, SpecError
from saccade.progress import Progress, SilentProgress
from saccade.spec import Spec, absolute_paths, make_spec, read_spec
from saccade.study import to_json

SpecFile = Annotated[Path | None, typer.Argument(help="A YAML spec; flags override it.")]
Task = Annotated[
    str | None,
    typer.Option(
        help="What the model does: detection, tracking, classification, segmentation (a class per "
        "pixel) or instance_segmentation."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="An .onnx, .pt2, TorchScript or OpenVINO .xml file, module:factory, torchvision:NAME."
    ),
]
Weights = Annotated[Path | None, typer.Option(help="State dict of the module the model names.")]
Data = Annotated[
    Path | None, typer.Option(help="Labelled images: data.yaml, COCO JSON, or a folder.")
]
Video = Annotated[
    str | None, typer.Option(help="What it runs on: video, folder, stream URL or camera.")
]
Candidates = Annotated[
    list[str] | None,
    typer.Option(
        help="Other models of the same task to try in its place: one or more files or names such "
        "as ultralytics:yolo11n. A spec file goes before this option."
    ),
]
Students = Annotated[
    list[str] | None,
    typer.Option(
        help="Smaller torch models that the model teaches and that may take its place: one or "
        "more. A spec file goes before this option."
    ),
]
Also = Annotated[
    Path | None,
    typer.Option(help="A YAML spec of a second model on the same frames, for another task."),
]
Target = Annotated[
    str | None,
    typer.Option(help="Where it will run: cpu (this machine), cuda, or one that `doctor` lists."),
]
Runtimes = Annotated[
    list[str] | None,
    typer.Option("--runtime", help="Try only these beside the model's own; repeat it."),
]
Goals = Annotated[
    list[str] | None, typer.Option("--goal", help="Such as 'throughput_fps>=60'; repeat it.")
]
Scenario = Annotated[
    str | None,
    typer.Option(help="throughput or latency: what is to be fast; by default as goals say."),
]
Budget = Annotated[str | None, typer.Option(help="Time for the search, such as 5m.")]
Out = Annotated[Path, typer.Option(help="The run folder.")]
Preprocess = Annotated[
    str | None,
    typer.Option("--preprocessor", help="Your own preprocessing, as package.module:Class."),
]
MeasurementsFile = Annotated[
    Path | None, typer.Option("--measurements", help="What a kit's measure.py wrote on the device.")
]
KitFolder = Annotated[
    Path | None, typer.Option("--kit", help="The kit that was measured; by default OUT/kit.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]

EXIT_OF = {"met": EXIT_MET, "not_met": EXIT_NOT_MET, "inconclusive": EXIT_INCONCLUSIVE}
DEFAULT_OUT = Path("runs/latest")


def spec_from(
    file: Path | None,
    *,
    task: str | None = None,
    model: str | None = None,
    weights: Path | None = None,
    data: Path | None = None,
    video: str | None = None,
    target: str | None = None,
    goals: list[str] | None = None,
    scenario: str | None = None,
    budget: str | None = None,
    preprocessor: str | None = None,
    candidates: list[str] | None = None,
    students: list[str] | None = None,
    also: Path | None = None,
    runtimes: list[str] | None = None,
) -> Spec:
    """A spec from a file, from flags, or from a file that flags override.

    Raises:
        SpecError: neither was given, or something in them is wrong.
    """
    # Paths in a file are relative to it, those in flags to the current folder.
    document = absolute_paths(read_spec(file), file.parent) if file is not None else {}
    flags = {
        "task": task,
        "model": model,
        "weights": weights,
        "data": data,
        "video": video,
        "target": target,
        "goals": tuple(goals) if goals else None,
        "scenario": scenario,
        "budget": budget,
        "preprocessor": preprocessor,
        "candidates": tuple(candidates) if candidates else None,
        "students": tuple(students) if students else None,
        "also": also,
        "runtimes": tuple(runtimes) if runtimes else None,
    }
    document.update({key: value for key, value in flags.items() if value is not None})
    if not document:
        raise SpecError(
            "There is nothing to do. Give a spec file or --model with --data or --video; "
            "`saccade init` writes a spec."
        )
    return make_spec(document)


def check_measured(kit: Path | None, measurements: Path | None) -> None:
    """Refuse a kit without what it measured.

    Raises:
        SpecError: as said.
    """
    if kit is not None and measurements is None:
        raise SpecError(
            "--kit says which kit was measured. Give --measurements too, the file that its "
            "measure.py wrote; to make a kit, use `saccade export --kit`."
        )


def remember_folder(out: Path) -> None:
    """Let the error handler know where tracebacks go."""
    os.environ["SACCADE_RUN_FOLDER"] = str(out)


def progress_for() -> Progress:
    """Progress on stderr, so that stdout holds nothing but the result."""
    if os.environ.get("SACCADE_QUIET"):
        return SilentProgress()
    from saccade.report.console import ConsoleProgress

    progress: Progress = ConsoleProgress()
    return progress


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(to_json({"schema_version": 1, **document}, indent=1) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout; nothing where there are no rows."""
    if not rows:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=None, show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
