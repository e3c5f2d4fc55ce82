"""`saccade demo`: the whole playbook on a model and a video that pip packages bring."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from saccade.cli.common import AsJson, Out, progress_for, remember_folder
from saccade.cli.optimize import finish

DEMO_OUT = Path("runs/demo")
DemoBudget = Annotated[str, typer.Option(help="Time for the search.")]


def demo(out: Out = DEMO_OUT, budget: DemoBudget = "3m", as_json: AsJson = False) -> None:
    r"""Run the playbook on YOLO11n and a 1080p city video; needs saccade\[demo] and no network.

    Example: saccade demo
    """
    from saccade.playbook.demo import demo_spec
    from saccade.playbook.optimize import optimize

    remember_folder(out / "run")
    with closing(progress_for()) as progress:
        spec = demo_spec(out, budget, progress)
        study = optimize(spec, out / "run", progress)
    finish(study, as_json)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(demo)
