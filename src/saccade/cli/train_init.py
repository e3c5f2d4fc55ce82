"""`saccade train init`: write a commented job file for a task and its data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saccade.cli.common import AsJson, print_json
from saccade.errors import SpecError
from saccade.study import storage_errors

InitTask = Annotated[str, typer.Option("--task", help="classification, segmentation or detection.")]
InitData = Annotated[
    Path, typer.Option("--data", help="Folders of images, masks, a data.yaml or COCO JSON.")
]
JobOut = Annotated[
    Path, typer.Option("--out", "-o", help="The job file to write; it must not exist.")
]


def init(
    task: InitTask, data: InitData, out: JobOut = Path("job.py"), as_json: AsJson = False
) -> None:
    """Look at the data, and write a job file with comments that trains as it stands.

    Example: saccade train init --task segmentation --data camvid -o job.py
    """
    from saccade.playbook.training_draft import draft_job

    if out.exists():
        raise SpecError(f"'{out}' exists and was left alone. Choose another --out or remove it.")
    text, facts = draft_job(task, data)
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        # Not even a file that appeared a moment ago is overwritten.
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    if as_json:
        print_json({"job": str(out), **facts})
        return
    print(f"{facts['train']} images to train on, {facts['val']} for judging, of these classes:")
    print(f"  {', '.join(facts['classes'][:20])}")
    print(f"written to {out}; next: saccade train optimize {out} --out runs/{out.stem}")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(init)
