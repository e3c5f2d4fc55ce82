"""The command, one file per verb; verbs are thin and everything they do is in the package."""

from __future__ import annotations


def main() -> None:
    """Entry point of the ``saccade`` command."""
    from saccade.cli.app import run

    run()
