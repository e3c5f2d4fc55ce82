"""`saccade train`: measure, diagnose, fix and carry out trainings."""

from __future__ import annotations

import typer

from saccade.cli import train_init, train_optimize, train_profile, train_run, train_scale

VERBS = (train_init, train_optimize, train_profile, train_run, train_scale)


def register(app: typer.Typer) -> None:
    """Add the verb with its own verbs."""
    train = typer.Typer(
        no_args_is_help=True,
        help="Measure, diagnose, speed up and carry out a training. "
        "Example: saccade train optimize job.py",
    )
    for verb in VERBS:
        verb.register(train)
    app.add_typer(train, name="train")
