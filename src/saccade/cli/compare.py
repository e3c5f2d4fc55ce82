"""`saccade compare`: race two bundles, interleaved."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import typer

from saccade.cli.common import AsJson, print_json, progress_for
from saccade.errors import EXIT_INCONCLUSIVE

First = Annotated[Path, typer.Argument(help="A bundle, a run folder, or a run's baseline.json.")]
Second = Annotated[Path, typer.Argument(help="Another, or the same one to see the noise.")]
Source = Annotated[str, typer.Option("--video", help="What both run on.")]
ByLatency = Annotated[bool, typer.Option("--latency", help="Compare latency, not throughput.")]


def compare(
    first: First,
    second: Second,
    video: Source,
    latency: ByLatency = False,
    as_json: AsJson = False,
) -> None:
    """Race two configurations in turns; says 'not distinguishable' where that is the answer.

    Ends with 0 where one is faster and with 4 where they cannot be told apart.

    Example: saccade compare runs/street/baseline.json runs/street/bundle --video street.mp4
    """
    from saccade.playbook.judge import compare_configs

    objective: Literal["throughput", "latency"] = "latency" if latency else "throughput"
    with closing(progress_for()) as progress:
        document = compare_configs(first, second, video, objective, progress)
    if as_json:
        print_json(document)
    else:
        low, high = document["interval"]
        ratio = f"{document['ratio']:.3f} [{low:.3f}, {high:.3f}]"
        print(f"{document['verdict']}: second over first {ratio}")
        print(document["reason"])
    if document["verdict"] == "not distinguishable":
        raise typer.Exit(EXIT_INCONCLUSIVE)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(compare)
