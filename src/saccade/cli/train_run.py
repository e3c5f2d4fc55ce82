"""`saccade train run`: the whole training, resumable."""

from __future__ import annotations

import os
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from saccade.cli.common import AsJson, print_json, remember_folder
from saccade.cli.train_optimize import JobData, JobTask, Recipes, Strategy, Weights
from saccade.errors import EXIT_INCONCLUSIVE

What = Annotated[str, typer.Argument(help="A folder of `train optimize`, or a job with --out.")]
RunOut = Annotated[Path | None, typer.Option("--out", help="The run folder, for a job.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Passes over the data.")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; by default as the run says.")]
Seed = Annotated[int | None, typer.Option(help="Of weights, order and augmentation.")]
MaxCorrupt = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Share of unreadable samples, 0-1, that is left out."),
]
SaveEvery = Annotated[
    float | None, typer.Option(min=0, help="Seconds between checkpoints within an epoch.")
]
Log = Annotated[
    list[str] | None, typer.Option(help="tensorboard or mlflow, beside the files; repeat it.")
]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="The same weights every time, bit by bit.")
]
Restart = Annotated[bool, typer.Option("--restart", help="Begin again; checkpoints are removed.")]


Processes = Annotated[
    int | None, typer.Option(min=1, help="Processes on each machine, which share every batch.")
]
Nodes = Annotated[int | None, typer.Option(min=1, help="Machines, as a Ray cluster.")]


Offload = Annotated[
    bool | None,
    typer.Option(
        "--offload/--no-offload",
        help="With fsdp: shares of the model rest in the CPU's memory; for models that do not fit.",
    ),
]


class OnNonFinite(StrEnum):
    """What to do about a loss that is infinite or NaN."""

    stop = "stop"
    skip = "skip"


NonFinite = Annotated[
    OnNonFinite, typer.Option("--on-nonfinite", help="At a NaN: stop, or leave the step out.")
]


def run(
    what: What,
    out: RunOut = None,
    epochs: Epochs = None,
    task: JobTask = None,
    data: JobData = None,
    weights: Weights = None,
    recipe: Recipes = None,
    device: Device = None,
    seed: Seed = None,
    max_corrupt: MaxCorrupt = None,
    save_every: SaveEvery = None,
    on_nonfinite: NonFinite = OnNonFinite.stop,
    log: Log = None,
    deterministic: Deterministic = False,
    restart: Restart = False,
    processes: Processes = None,
    nodes: Nodes = None,
    strategy: Strategy = None,
    offload: Offload = None,
    as_json: AsJson = False,
) -> None:
    """Train to the end, with checkpoints; the same command goes on after an interruption.

    Example: saccade train run runs/unet
    """
    from saccade.playbook.train_run import TrainingRequest, run_training
    from saccade.train.distributed import rank_here
    from saccade.train.recipe import joined
    from saccade.train.run_options import SAVE_EVERY_S, RunOptions

    # The run folder may be used from another folder than this one.
    paths = {"data": data, "weights": weights}
    given = {"task": task, "recipe": joined(recipe)}
    given |= {name: str(path.absolute()) for name, path in paths.items() if path is not None}
    settings = {name: value for name, value in given.items() if value is not None}
    options = RunOptions(
        on_nonfinite.value,
        SAVE_EVERY_S if save_every is None else save_every,
        tuple(log or ()),
    )
    folder = Path(what) if Path(what).is_dir() else out
    if folder is not None:
        remember_folder(folder)
    request = TrainingRequest(
        what, out, epochs, settings, device, seed, max_corrupt, deterministic, restart, options,
        processes, nodes, strategy.value if strategy is not None else None, offload,
    )  # fmt: skip
    with closing(run_progress()) as progress:
        try:
            result = run_training(request, progress)
        except KeyboardInterrupt:
            progress.close()
            progress.note(f"saccade: stopped and saved. Go on with: saccade train run {folder}")
            _leave()
            raise typer.Exit(EXIT_INCONCLUSIVE) from None
    _leave()
    if rank_here():
        return
    if as_json:
        print_json(result)
    else:
        _tell(result, folder)


def _leave() -> None:
    """The others, where torchrun has started this command in several processes."""
    from saccade.train.distributed import is_rank, leave

    if is_rank():
        leave()


def run_progress() -> Any:
    """Progress on stderr, or none where the environment asks for silence."""
    from saccade.train.distributed import rank_here

    if os.environ.get("SACCADE_QUIET") or rank_here():
        from saccade.train.run_progress import SilentRun

        return SilentRun()
    from saccade.report.training_progress import TrainingBar

    return TrainingBar()


def _tell(result: dict[str, Any], folder: Path | None) -> None:
    best = result["best"]
    rate = result["samples_per_s"] or 0.0
    print(f"{result['epochs_done']} epochs in {result['wall_s']:.1f} s, {rate:.3g} samples/s")
    if best is not None:
        metric = "" if best["metric"] is None else f", metric {best['metric']:.4g}"
        print(f"best: epoch {best['epoch']}, held-out loss {best['loss']:.4g}{metric}")
    if result["corrupt"]["samples"]:
        print(f"left out: {result['corrupt']['samples']} samples that cannot be prepared")
    saved = result["checkpoints"]
    print(f"checkpoints: {saved['written']}, {saved['share'] or 0:.1%} of the time")
    print(f"weights: {folder}/{result['model']} (best), {folder}/{result['last']} (last)")
    if result["deployable"]:
        print(f"to deploy: {folder}/{result['deployable']}")
    else:
        print(
            f"nothing to deploy: {result['not_deployable']}. The weights are there; load them into "
            "the job's model() and export what your runtime takes."
        )


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(run)
