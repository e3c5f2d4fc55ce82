"""`saccade train scale`: what several processes and machines would bring."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from saccade.cli.common import AsJson, Out, print_json, progress_for, remember_folder
from saccade.cli.train_optimize import (
    DEFAULT_OUT,
    Device,
    Job,
    JobData,
    JobTask,
    job_document,
)

Gigabits = Annotated[
    float, typer.Option("--network", min=0.001, help="Between machines, in Gbit/s.")
]
LatencyUs = Annotated[
    float, typer.Option("--latency", min=0, help="Between machines, in microseconds.")
]


def scale(
    job: Job,
    data: JobData = None,
    task: JobTask = None,
    device: Device = None,
    network: Gigabits = 10.0,
    latency: LatencyUs = 50.0,
    out: Out = DEFAULT_OUT,
    as_json: AsJson = False,
) -> None:
    """Predict samples per second by number of processes, from measured compute and communication.

    Two processes are tried as well, where this machine allows it. Writes scaling.json and
    scaling.md. Example: saccade train scale job.py --network 25 --out runs/unet
    """
    from saccade.playbook.training.scaling import scaling_of_job
    from saccade.train.scaling import Link
    from saccade.train.spec import make_training_spec

    flags = {"data": data, "task": task, "device": device}
    given = {name: value for name, value in flags.items() if value is not None}
    spec = make_training_spec({**job_document(job), **given})
    remember_folder(out)
    with closing(progress_for()) as progress:
        report = scaling_of_job(spec, out, Link(latency / 1e6, network * 125), progress)
    if as_json:
        print_json(report.document())
        return
    print(report.table())


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(scale)
