"""`saccade report`: write the report of a run anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saccade.cli.common import AsJson, print_json
from saccade.study import Study

Folder = Annotated[Path, typer.Argument(help="The run folder.")]


def report(folder: Folder, as_json: AsJson = False) -> None:
    """Print a run's summary and write its report.html anew.

    Example: saccade report runs/street
    """
    study = Study.load(folder)
    path = study.report()
    if as_json:
        print_json(study.result)
        return
    from rich.console import Console

    from saccade.report.console import summary
    from saccade.report.training.console import training_summary

    training = study.result.get("kind") == "training"
    tell = training_summary if training else summary
    tell(study.result, Console(), report=str(path))


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(report)
