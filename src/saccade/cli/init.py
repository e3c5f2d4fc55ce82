"""`saccade init`: write a commented spec by looking at the model and the data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saccade.cli.common import AsJson, Data, Model, Task, Video, Weights, print_json
from saccade.errors import SpecError
from saccade.study import storage_errors

SpecOut = Annotated[Path, typer.Option(help="The spec to write; it must not exist.")]


def init(
    task: Task = None,
    model: Model = None,
    weights: Weights = None,
    data: Data = None,
    video: Video = None,
    out: SpecOut = Path("saccade.yaml"),
    as_json: AsJson = False,
) -> None:
    """Look at a model and at data, and write a spec with comments to start from.

    Example: saccade init --model yolo11n.onnx --data data.yaml --video street.mp4
    """
    from saccade.playbook.draft import draft_spec

    if model is None:
        raise SpecError("There is no model to look at. Give --model with a file or a name.")
    if out.exists():
        raise SpecError(f"'{out}' exists and was left alone. Choose another --out or remove it.")
    text, facts = draft_spec(model, data, video, out.parent, task or "detection", weights)
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    if as_json:
        print_json({"spec": str(out), **facts})
        return
    print(text)
    print(f"written to {out}; next: saccade optimize {out}")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(init)
