"""`saccade validate`: accuracy of a bundle, alone or against another."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from saccade.cli.common import EXIT_OF, AsJson, Goals, print_json, print_table, progress_for
from saccade.goals import parse_goal
from saccade.label_settings import LabelSettings

Bundle = Annotated[Path, typer.Argument(help="A bundle or the run folder that holds one.")]
Labels = Annotated[Path, typer.Option("--data", help="Labelled images.")]
Against = Annotated[
    Path | None, typer.Option(help="A bundle, or a run's baseline.json, to compare with.")
]
FirstClass = Annotated[
    int | None, typer.Option(min=0, max=1, help="Number of the first class in a CSV.")
]
VoidIds = Annotated[
    list[int] | None,
    typer.Option(min=0, max=255, help="An id in masks that is not judged, beside 255; repeat it."),
]


def validate(
    bundle: Bundle,
    data: Labels,
    against: Against = None,
    goal: Goals = None,
    first_class: FirstClass = None,
    void_id: VoidIds = None,
    as_json: AsJson = False,
) -> None:
    """Judge a bundle's accuracy on labelled images, with intervals.

    Labels are read as those that the bundle was made with, unless --first-class or --void-id says
    otherwise.

    Example: saccade validate runs/street --data data.yaml --against runs/street/baseline.json
    """
    from saccade.playbook.judge import judge_bundle

    goals = tuple(parse_goal(text) for text in goal or ())
    labels = LabelSettings(first_class=first_class, void_ids=tuple(void_id) if void_id else None)
    with closing(progress_for()) as progress:
        document = judge_bundle(bundle, data, against, goals, progress, labels)
    if as_json:
        print_json(document)
    else:
        rows = [
            (name, f"{m['value']:.4f}", f"{m['low']:.4f} to {m['high']:.4f}")
            for name, m in document["metrics"].items()
        ]
        print_table(f"On {document['images']} images", ("metric", "value", "95% interval"), rows)
        verdicts = [(g["name"], f"{g['value']:.4f}", g["status"]) for g in document["goals"]]
        print_table("Goals", ("goal", "value", "status"), verdicts)
    raise typer.Exit(EXIT_OF[document["status"]])


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(validate)
