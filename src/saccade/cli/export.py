"""`saccade export`: a kit that measures on a device which is not at hand, or one model file."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from saccade.cli.common import (
    AsJson,
    Candidates,
    Data,
    Goals,
    Model,
    SpecFile,
    Target,
    Task,
    Video,
    Weights,
    print_json,
    print_table,
    progress_for,
    spec_from,
)
from saccade.errors import SpecError

MakeKit = Annotated[
    bool, typer.Option("--kit", help="A folder with candidates, frames and measure.py.")
]
KitOut = Annotated[Path, typer.Option(help="The kit's folder.")]
DEFAULT_OUT = Path("kit")


def export(
    spec_file: SpecFile = None,
    kit: MakeKit = False,
    task: Task = None,
    model: Model = None,
    weights: Weights = None,
    data: Data = None,
    video: Video = None,
    target: Target = None,
    goal: Goals = None,
    candidates: Candidates = None,
    out: KitOut = DEFAULT_OUT,
    as_json: AsJson = False,
) -> None:
    """Make a kit: model files, frames and one script that measures on the device.

    Example: saccade export --kit --model yolo11n.onnx --data data.yaml
    --target jetson-orin-nano --out kit
    """
    from saccade.playbook.partial import export_kit

    if not kit:
        raise SpecError(
            "There is nothing to export. Give --kit; a bundle is written by `saccade optimize`."
        )
    if spec_file is not None and spec_file.is_dir():
        spec_file = spec_file / "spec.yaml"  # a run folder
    spec = spec_from(
        spec_file,
        task=task,
        model=model,
        weights=weights,
        data=data,
        video=video,
        target=target,
        goals=goal,
        candidates=candidates,
    )
    with closing(progress_for()) as progress:
        document = export_kit(spec, out, progress)
    if as_json:
        print_json({**document, "folder": str(out)})
        return
    rows = [
        (c["id"], document["files"][c["file"]]["label"], c["runtime"], c["precision"])
        for c in document["candidates"]
    ]
    print_table(f"Kit for {document['target']}", ("candidate", "file", "runtime", "in"), rows)
    left = [(entry["what"], entry["reason"]) for entry in document["left_out"]]
    print_table("Left out", ("what", "reason"), left)
    print(f"{out}: copy it to the device and run there: python3 measure.py")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(export)
