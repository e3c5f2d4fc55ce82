"""`saccade compare`: race two bundles, interleaved, or read what a device has measured."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from saccade.cli.common import (
    AsJson,
    KitFolder,
    MeasurementsFile,
    check_measured,
    print_json,
    print_table,
    progress_for,
)
from saccade.errors import EXIT_INCONCLUSIVE, SpecError

First = Annotated[
    str | None,
    typer.Argument(
        help="A bundle, a run folder, or a run's baseline.json; with --measurements, a candidate."
    ),
]
Second = Annotated[str | None, typer.Argument(help="Another, or the same one to see the noise.")]
Source = Annotated[str | None, typer.Option("--video", help="What both run on.")]
ByLatency = Annotated[bool, typer.Option("--latency", help="Compare latency, not throughput.")]
Objective = Literal["throughput", "latency"]


def compare(
    first: First = None,
    second: Second = None,
    video: Source = None,
    measurements: MeasurementsFile = None,
    kit: KitFolder = None,
    latency: ByLatency = False,
    as_json: AsJson = False,
) -> None:
    """Race two configurations in turns; says 'not distinguishable' where that is the answer.

    Ends with 0 where one is faster and with 4 where they cannot be told apart. With --measurements
    it reads what a kit measured on a device: two candidates, or all against the reference.

    Example: saccade compare runs/street/baseline.json runs/street/bundle --video street.mp4
    """
    objective: Objective = "latency" if latency else "throughput"
    check_measured(kit, measurements)
    if measurements is not None and video is not None:
        raise SpecError(
            "--video is what a race on this machine runs on, and --measurements were taken on "
            "another. Give one of them."
        )
    if measurements is not None:
        document = _measured(measurements, kit, first, second, objective)
    else:
        document = _raced(first, second, video, objective)
    if as_json:
        print_json(document)
    elif "candidates" in document:
        _print_candidates(document)
    else:
        low, high = document["interval"]
        ratio = f"{document['ratio']:.3f} [{low:.3f}, {high:.3f}]"
        print(f"{document['verdict']}: second over first {ratio}")
        print(document["reason"])
    if document.get("verdict") == "not distinguishable":
        raise typer.Exit(EXIT_INCONCLUSIVE)


def _raced(
    first: str | None, second: str | None, video: str | None, objective: Objective
) -> dict[str, Any]:
    from saccade.playbook.judge import compare_configs

    if first is None or second is None or video is None:
        raise SpecError(
            "A race needs two configurations and --video. To read what a device measured, give "
            "--measurements. See `saccade compare --help`."
        )
    with closing(progress_for()) as progress:
        return compare_configs(Path(first), Path(second), video, objective, progress)


def _measured(
    path: Path, kit: Path | None, first: str | None, second: str | None, objective: Objective
) -> dict[str, Any]:
    from saccade.playbook.kit_comparison import compare_measured

    if kit is None:
        raise SpecError(
            "What was measured is read together with its kit. Give --kit with the folder that "
            "`saccade export --kit` or `saccade optimize` wrote."
        )
    return compare_measured(path, kit, first, second, objective)


def _print_candidates(document: dict[str, Any]) -> None:
    measured = [row for row in document["candidates"] if row["ratio"]]
    rows = [
        (
            row["candidate"],
            row["verdict"] if row["status"] == "measured" else row["status"],
            f"{row['ratio']:.2f}x [{row['interval'][0]:.2f}, {row['interval'][1]:.2f}]",
            _ms(row, "p50"),
            _ms(row, "p99"),
        )
        for row in measured
    ]
    columns = ("candidate", "", "against the reference", "p50", "p99")
    print_table(f"Measured on {document['device']}", columns, rows)
    others = [
        (row["candidate"], f"{row['status']}: {row['reason']}")
        for row in document["candidates"]
        if row["status"] != "measured"
    ]
    print_table("Not counted", ("", ""), others)
    print(f"Reference: {document['reference']}. {document['scope']}.")
    resolution = document["resolution"]
    if math.isfinite(resolution):
        print(f"Differences of {resolution:.1%} could be resolved there.")
    else:
        print("The reference's twin was not measured long enough to know the noise there.")
    if document["not_the_target"]:
        print(f"Note that {document['not_the_target']}.")


def _ms(row: dict[str, Any], name: str) -> str:
    value = row["metrics"].get(f"latency_ms.{name}", {}).get("value")
    return f"{value:.2f} ms" if value else ""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(compare)
