"""`saccade rollback`: use the bundle before the one in use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saccade.cli.common import AsJson, print_json

if TYPE_CHECKING:
    from saccade.deploy.opened import Bundle as Opened

Bundle = Annotated[Path, typer.Argument(help="A bundle or the run folder that holds one.")]


def rollback(bundle: Bundle, as_json: AsJson = False) -> None:
    """Go back to the bundle before: both change places, so that a second time undoes the first.

    A run that writes another bundle keeps the one before beside it, as bundle.previous. Both are
    checked by their hashes; where the older one was damaged, nothing is changed. The run's result
    and report go on telling of the bundle that the run wrote last.

    Example: saccade rollback runs/street
    """
    from saccade.deploy.rollback import roll_back

    done = roll_back(bundle)
    if as_json:
        print_json(done.document())
        return
    print(f"in use now   {_line(done.now)}")
    print(f"previous     {_line(done.before) if done.before else done.why_unsound}")
    print(f"bundle       {done.now.folder}")


def _line(bundle: Opened) -> str:
    """Its hash, its speedup and its changes."""
    low, value, high = bundle.speedup or (None, None, None)
    speedup = f", {value:.2f}x the baseline ({low:.2f}-{high:.2f})" if value is not None else ""
    changes = "; ".join(bundle.changes) or "no changes"
    return f"{bundle.hash}{speedup}: {changes}"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(rollback)
