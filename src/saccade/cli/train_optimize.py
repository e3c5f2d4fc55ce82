"""`saccade train optimize`: the playbook of a training."""

from __future__ import annotations

from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from saccade.cli.common import (
    EXIT_OF,
    AsJson,
    Out,
    print_json,
    progress_for,
    remember_folder,
)


class LearningRate(StrEnum):
    """How the learning rate grows with the batch."""

    linear = "linear"
    sqrt = "sqrt"
    none = "none"


class Sharing(StrEnum):
    """How several processes share the model."""

    ddp = "ddp"
    fsdp = "fsdp"


DEFAULT_OUT = Path("runs/training")
Job = Annotated[str, typer.Argument(help="A job.py, a spec.yaml, or another training job.")]
Strategy = Annotated[
    Sharing | None, typer.Option(help="A copy of the model for each process, or a share of it.")
]
JobData = Annotated[Path | None, typer.Option("--data", help="Data, where the job says none.")]
JobTask = Annotated[str | None, typer.Option("--task", help="Task, where the job says none.")]
Weights = Annotated[
    Path | None, typer.Option("--weights", help="State dict that the training starts from.")
]
Recipes = Annotated[
    list[str] | None,
    typer.Option(
        "--recipe", help="Fine-tune a smaller model: prune=0.3, quantize, distill; repeat it."
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; by default a GPU if there is one.")]
Seeds = Annotated[int | None, typer.Option(help="Trainings that loss curves are compared on.")]
Steps = Annotated[int | None, typer.Option(help="Steps of each; by default as time allows.")]
Allow = Annotated[
    list[str] | None,
    typer.Option(help="Changes of the recipe that may be tried: batch, model, scale."),
]
TrainingGoals = Annotated[
    list[str] | None,
    typer.Option(
        "--goal", help="Such as 'epoch_s<=60', 'samples_per_s>=20', 'loss_drift<=0.02'; repeat it."
    ),
]
TrainingBudget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        help="Time for the search, such as 10m; what is measured before and after it may take "
        "longer where steps are slow.",
    ),
]
LrScaling = Annotated[
    LearningRate | None,
    typer.Option(
        "--lr-scaling",
        help="Of the learning rate with a larger batch; by default sqrt for Adam, else linear.",
    ),
]
MaxCorrupt = Annotated[
    float | None, typer.Option(help="Share of unreadable samples, 0-1, that is skipped.")
]


def optimize(
    job: Job,
    data: JobData = None,
    task: JobTask = None,
    weights: Weights = None,
    recipe: Recipes = None,
    goal: TrainingGoals = None,
    budget: TrainingBudget = None,
    device: Device = None,
    seeds: Seeds = None,
    steps: Steps = None,
    allow: Allow = None,
    lr_scaling: LrScaling = None,
    max_corrupt: MaxCorrupt = None,
    out: Out = DEFAULT_OUT,
    as_json: AsJson = False,
) -> None:
    """Find what makes a training faster and leaves what it learns.

    Example: saccade train optimize job.py --goal 'epoch_s<=60' --goal 'loss_drift<=0.02'
    --budget 10m --out runs/unet
    """
    from saccade.playbook.training.optimize import optimize_training
    from saccade.train.spec import make_training_spec

    flags = {
        "data": data,
        "task": task,
        "weights": weights,
        "recipe": recipe,
        "goals": goal,
        "budget": budget,
        "device": device,
        "seeds": seeds,
        "steps": steps,
        "allow": allow,
        "lr_scaling": lr_scaling.value if lr_scaling is not None else None,
        "max_corrupt": max_corrupt,
    }
    spec = make_training_spec(
        {**job_document(job), **{k: v for k, v in flags.items() if v is not None}}
    )
    remember_folder(out)
    with closing(progress_for()) as progress:
        study = optimize_training(spec, out, progress)
    if as_json:
        print_json(study.result)
    else:
        from rich.console import Console

        from saccade.report.training.console import training_summary

        training_summary(study.result, Console(), str(study.folder / "report.html"))
    raise typer.Exit(EXIT_OF[study.status])


def job_document(job: str) -> dict[str, Any]:
    """The settings that the argument stands for: a spec file, or a job.

    Paths in a file are relative to it.

    Raises:
        SpecError: the spec file cannot be read.
    """
    if not job.endswith((".yaml", ".yml")):
        return {"job": job}
    from saccade.spec import absolute_paths, read_spec
    from saccade.train.run_file import absolute_name

    base = Path(job).parent
    values = absolute_paths(read_spec(Path(job)), base)
    if isinstance(values.get("job"), str):
        values["job"] = absolute_name(values["job"], base)
    return values


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(optimize)
