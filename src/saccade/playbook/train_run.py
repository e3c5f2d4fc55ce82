"""The whole training, in a run folder; what `saccade train run` does."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from saccade.environment import usable_cores
from saccade.errors import OutOfMemory, SaccadeError, SpecError, first_line
from saccade.study import RunFolder
from saccade.train.batch_fit import smallest_factor
from saccade.train.checkpoint import Checkpoints, write_tensors
from saccade.train.computing import make_model
from saccade.train.config import ComputeSettings, ScaleSettings, Strategy, TrainingConfig
from saccade.train.distributed import is_rank, rank_here
from saccade.train.dividing import spread
from saccade.train.example import example_input
from saccade.train.folder_lock import only_trainer
from saccade.train.job import TrainingJob, open_job, refer
from saccade.train.launch import launch_training
from saccade.train.loggers.mlflow import RUN_ID
from saccade.train.nonfinite import to_cpu
from saccade.train.own_settings import check_device, own_config
from saccade.train.run_file import RUN_FILE, check_job_unchanged, read_run_file
from saccade.train.run_options import RunOptions
from saccade.train.run_progress import RunProgress, SilentRun
from saccade.train.running import CHECKPOINTS, TrainingRun
from saccade.train.sharding import model_state

RESULT = "training-result.json"
MODEL, LAST = "model.pt", "last.pt"
# What exporters write.
DEPLOYABLE = ("model.pt2", "model.xml", "model.bin")
SHOWN_CORRUPT = 20


@dataclass(frozen=True)
class TrainingRequest:
    """What the user asks of `saccade train run`.

    Attributes:
        what: a run folder, or a job.
        out: the run folder, where ``what`` is a job.
        epochs: passes over the data, instead of what the run or the job says.
        settings: of kinds of jobs that need more than a name.
        deterministic: the same bits every time.
        restart: forget the checkpoints that are there.
        processes: on each machine, instead of what the run says.
        nodes: machines.
        strategy: how processes share the model.
        offload: shares of the model rest in the CPU's memory.
    """

    what: str
    out: Path | None = None
    epochs: int | None = None
    settings: Mapping[str, str] | None = None
    device: str | None = None
    seed: int | None = None
    max_corrupt: float | None = None
    deterministic: bool = False
    restart: bool = False
    options: RunOptions = field(default_factory=RunOptions)
    processes: int | None = None
    nodes: int | None = None
    strategy: Strategy | None = None
    offload: bool | None = None


@dataclass(frozen=True)
class Asked:
    """A request that was looked up: which job, how, how long, where."""

    job: TrainingJob
    config: TrainingConfig
    epochs: int
    folder: Path


def run_training(request: TrainingRequest, progress: RunProgress | None = None) -> dict[str, Any]:
    """Train to the end, or on from where an earlier run stopped; the content of the result.

    Where the configuration trains in several processes, they are started, unless this is one of
    them: one that torchrun or Ray has started trains here with the others.

    Raises:
        KeyboardInterrupt: a signal came; everything was saved, and the result says so.
        SaccadeError: the request cannot be carried out; see `saccade.errors`.
    """
    asked = look_up(request)
    if asked.config.deterministic:
        # cuBLAS reads it when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if asked.config.scale.strategy != "single" and not is_rank():
        return _run_in_ranks(request, asked, shown=not isinstance(progress, SilentRun | None))
    run = RunFolder(asked.folder)
    # The others of a training may stand on other machines, and write nothing.
    with only_trainer(asked.folder) if rank_here() == 0 else contextlib.nullcontext():
        if rank_here() == 0:
            _clear(asked.folder, request.restart)
        training = TrainingRun(
            asked.job, asked.config, asked.epochs, asked.folder, request.options, progress
        )
        try:
            training.run()
            names = _write_weights(training)
        except KeyboardInterrupt:
            _write(run, training, "interrupted")
            raise
        except Exception as error:
            _write(run, training, "failed", reason=_said(error))
            raise
        return _write(run, training, "done", **names)


def _run_in_ranks(request: TrainingRequest, asked: Asked, *, shown: bool) -> dict[str, Any]:
    """Have all processes train, of which the first writes the result."""
    RunFolder(asked.folder)
    with only_trainer(asked.folder):
        _clear(asked.folder, request.restart)
    ranks = replace(request, restart=False)
    try:
        return _launch_until_it_fits(asked, ranks, shown)
    except Exception as error:
        _note_failure(asked, error)
        raise


def _launch_until_it_fits(asked: Asked, ranks: TrainingRequest, shown: bool) -> dict[str, Any]:
    """Start all processes; where one runs out of memory, again from the newest checkpoint.

    One process cannot halve its batch alone, since the others wait for what it would have sent.
    """
    while True:
        try:
            result: dict[str, Any] = launch_training(asked.config, run_as_rank, ranks, shown)
            return result
        except OutOfMemory as error:
            if error.batch_size <= 1:
                raise
            fits = error.batch_size // smallest_factor(error.batch_size)
        # What the failed start wrote says that it failed.
        (asked.folder / RESULT).unlink(missing_ok=True)
        ranks = replace(ranks, options=replace(ranks.options, most_at_once=fits))


def run_as_rank(request: TrainingRequest, shown: bool) -> dict[str, Any]:
    """One of several processes; the first of them shows how far they are."""
    if not shown or rank_here():
        return run_training(request)
    from saccade.report.training_progress import TrainingBar

    with contextlib.closing(TrainingBar()) as progress:
        return run_training(request, progress)


def _note_failure(asked: Asked, error: Exception) -> None:
    """The result, where the first process was ended before it could write it."""
    run = RunFolder(asked.folder)
    if (asked.folder / RESULT).exists():
        return
    config = asked.config
    about = {"job": config.job.name, "config": config.to_dict(), "config_hash": config.hash}
    run.write_json(RESULT, {"status": "failed", **about, "reason": _said(error)})


def _said(error: Exception) -> str:
    """Why it failed; what is not of saccade's own, by its type."""
    return str(error) if isinstance(error, SaccadeError) else f"{type(error).__name__}: {error}"


def look_up(request: TrainingRequest) -> Asked:
    """Which job, under which configuration, for how long, and where.

    Raises:
        SpecError: there is no such run or job, it was changed, or its settings cannot be had here.
    """
    is_folder = Path(request.what).is_dir()
    folder = Path(request.what) if is_folder else request.out
    if folder is None:
        raise SpecError(
            f"There is no run folder for '{request.what}'. Say where checkpoints and the result "
            "go, with --out runs/NAME."
        )
    if is_folder and request.out is not None and request.out != folder:
        raise SpecError("A run folder holds its own results. Leave out --out, or give a job.")
    if is_folder and request.settings:
        flags = " and ".join(f"--{name}" for name in request.settings)
        raise SpecError(
            f"'{folder}' says itself what is trained. Leave out {flags}, or give the job with "
            "another --out."
        )
    if is_folder:
        found = read_run_file(folder)
        check_job_unchanged(found.config.job)
        config, epochs = found.config, found.epochs
        job = open_job(config.job)
    else:
        reference = refer(request.what, dict(request.settings or {}))
        job = open_job(reference)
        config, epochs = own_config(job, reference), job.epochs
    config = _with_flags(config, request)
    if not is_folder and not request.restart:
        _check_free(folder, config)
    check_device(config.compute.device)
    return Asked(job, config, request.epochs or epochs, folder)


def _check_free(folder: Path, config: TrainingConfig) -> None:
    """Whether a job may be trained in a folder: what `train optimize` found stays there."""
    if not (folder / RUN_FILE).is_file() or not RunFolder.holds_run(folder):
        return  # a stranger's folder is refused as that
    found = read_run_file(folder).config
    if found.hash != config.hash and not Checkpoints(folder / CHECKPOINTS).steps():
        raise SpecError(
            f"'{folder}' holds the training of another configuration or job. Train "
            f"with it: saccade train run {folder}; or choose another --out for the job's own "
            "settings."
        )


def _with_flags(config: TrainingConfig, request: TrainingRequest) -> TrainingConfig:
    if request.device is not None:
        config = config.with_compute(device=request.device)
    given = {"seed": request.seed, "max_corrupt": request.max_corrupt}
    values = {name: value for name, value in given.items() if value is not None}
    if request.deterministic:
        values["deterministic"] = True
    return _scaled(replace(config, **values), request)  # type: ignore[arg-type]


def _scaled(config: TrainingConfig, request: TrainingRequest) -> TrainingConfig:
    """Over as many processes as the user says; one process needs no others.

    Raises:
        SpecError: the batch cannot be divided, or nothing can be offloaded.
    """
    asked = (request.processes, request.nodes, request.strategy, request.offload)
    if asked == (None, None, None, None):
        return config
    own = config.scale
    if request.offload and not config.compute.device.startswith("cuda"):
        raise SpecError(
            f"--offload takes the model off a GPU, and this training is for "
            f"'{config.compute.device}'. Leave it out, or train with --device cuda."
        )
    usual: Strategy = "ddp" if own.strategy == "single" else own.strategy
    strategy = request.strategy or ("fsdp" if request.offload else usual)
    nodes, processes = request.nodes or own.nodes, request.processes or own.processes
    return spread(config, processes, nodes, strategy, usable_cores(), offload=request.offload)


def _clear(folder: Path, restart: bool) -> None:
    """The result of an earlier run goes; to begin again, all that it left of this training."""
    (folder / RESULT).unlink(missing_ok=True)
    if restart:
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        for name in (MODEL, LAST, RUN_ID, *DEPLOYABLE):
            (folder / name).unlink(missing_ok=True)


def _write_weights(training: TrainingRun) -> dict[str, Any]:
    """State dicts of the best epoch and of the last step."""
    whole = model_state(training.loop.model)
    if not training.first:
        return {}
    last = to_cpu(whole)
    write_tensors(training.folder / LAST, last)
    best = training.state.best
    found = training.checkpoints.load(best.step) if best is not None else None
    weights = last if found is None else dict(found["loop"]["model"])
    write_tensors(training.folder / MODEL, weights)
    file, reason = _write_deployable(training, weights)
    return {
        "model": MODEL,
        "model_epoch": best.epoch if best is not None and found is not None else training.epochs,
        "last": LAST,
        "deployable": file,
        "not_deployable": reason,
    }


def _write_deployable(
    training: TrainingRun, weights: dict[str, Any]
) -> tuple[str | None, str | None]:
    """The file that is deployed, or why there is none; no training fails for it."""
    job = training.job
    plain = replace(training.config, compute=ComputeSettings(), scale=ScaleSettings())
    try:
        model = make_model(job, plain, plain.seed)
        model.load_state_dict(weights)
        example = example_input(job, plain, 1)
        return job.exporter(model.eval(), example, training.folder).name, None
    except Exception as error:  # user code, and exporters of many kinds
        return None, first_line(error)


def _write(run: RunFolder, training: TrainingRun, status: str, **more: Any) -> dict[str, Any]:
    document = {"status": status, **result_of(training), **more}
    if training.first:
        run.write_json(RESULT, document)
    return document


def result_of(training: TrainingRun) -> dict[str, Any]:
    """What came of a training so far, JSON-ready."""
    state, config = training.state, training.config
    return {
        "job": config.job.name,
        "config": config.to_dict(),
        "config_hash": config.hash,
        "epochs": training.epochs,
        "epochs_done": len(state.history),
        "steps": state.history[-1].step if state.history else 0,
        "history": state.to_dict()["history"],
        "best": state.to_dict()["history"][state.best.epoch - 1] if state.best else None,
        "wall_s": state.wall_s,
        "samples": state.samples,
        "samples_per_s": state.samples / state.trained_s if state.trained_s else None,
        "checkpoints": {
            "folder": CHECKPOINTS,
            "steps": training.checkpoints.steps(),
            "written": state.saves,
            "save_s": state.save_s,
            "share": state.save_s / state.wall_s if state.wall_s else None,
        },
        "corrupt": {
            "samples": len(state.corrupt),
            "examples": dict(list(state.corrupt.items())[:SHOWN_CORRUPT]),
            "held_out": state.history[-1].corrupt if state.history else 0,
        },
        "skipped_steps": state.skipped,
        "events": state.events,
    }
