"""Tune the knobs with Optuna: streams, requests in flight, threads, queue depth, decoder, hints.

The study lives in ``study.db`` in the run folder, so that it can be resumed and inspected. Its
values are ratios to the incumbent, raced in short blocks. The best of many noisy values is
likely a lucky one, so the winner must win a race of its own before it is kept.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from saccade.errors import RuntimeFailure, SaccadeError, StorageError, first_line
from saccade.optimize.job import Job
from saccade.optimize.race import RacePlan, Runner, race
from saccade.pipeline.config import PipelineConfig
from saccade.progress import Progress
from saccade.study import RunFolder, storage_errors

# Short blocks: the point is to rank, the confirming race decides.
QUICK = RacePlan(block_s=0.5, min_pairs=2, max_pairs=2)
MIN_PROMISE = 1.01
# In the place of a number of streams: as many as the runtime likes.
BY_HINT = "throughput hint"


def tune(
    job: Job,
    run: RunFolder,
    incumbent: PipelineConfig,
    progress: Progress,
    time_left: Callable[[], float],
    max_trials: int = 14,
) -> PipelineConfig | None:
    """The most promising setting of the knobs, or None where none beat the incumbent's."""
    space = knobs(job, incumbent)
    if not space or time_left() <= 0:
        return None
    with database_errors(run):
        # The environment decides what values the knobs have, and what they are worth is a matter of
        # the objective, too.
        name = f"{incumbent.hash}-{job.environment.hash}-{job.objective}"
        study = _open(run, name, job.spec.seed)
        try:
            _try_knobs(study, space, job, incumbent, progress, time_left, max_trials)
        except RuntimeFailure as error:  # the incumbent's own worker; what was found stands
            progress.note(f"tuning ended early: {error}")
        return _winner(study, incumbent)


def _try_knobs(
    study: Any,
    space: dict[str, list[Any]],
    job: Job,
    incumbent: PipelineConfig,
    progress: Progress,
    time_left: Callable[[], float],
    max_trials: int,
) -> None:
    """Race settings against the incumbent until there were ``max_trials`` or time is up."""
    seen: dict[str, float] = {
        t.user_attrs["config_hash"]: t.value for t in study.trials if t.value is not None
    }
    reference = Runner(incumbent, job.source)
    try:
        for _ in range(max_trials):
            if time_left() <= 0 or len(study.trials) >= max_trials:
                break
            trial = study.ask()
            config = with_knobs(
                incumbent, {k: trial.suggest_categorical(k, v) for k, v in space.items()}
            )
            trial.set_user_attr("config_hash", config.hash)
            value = seen.get(config.hash)
            new = value is None
            if value is None and config.hash != incumbent.hash:
                value = _quick_race(job, reference, config, time_left)
            value = 1.0 if value is None and config.hash == incumbent.hash else value
            seen[config.hash] = value if value is not None else 0.0
            study.tell(trial, value if value is not None else 0.0)
            if value is not None and new:
                progress.note(f"{_describe(trial.params)}: {value:.3f}x")
    finally:
        reference.close()


def knobs(job: Job, config: PipelineConfig) -> dict[str, list[Any]]:
    """The knobs that mean something for a configuration, each with its values."""
    cores = job.environment.cores
    hinted = config.runtime == "openvino"
    if config.execution == "overlapped":
        streams = sorted({1, max(1, cores // 2), cores, cores + 1})
        space: dict[str, list[Any]] = {
            "streams": [*streams, *([BY_HINT] if hinted else [])],
            "in_flight": sorted({cores + 1, 2 * cores, 3 * cores, 4 * cores}),
            "queue_depth": [1, 2, 4],
        }
        if config.reader == "pyav":
            space["decode_threads"] = [1, 2] if cores > 1 else [1]
        return space
    space = {"threads": sorted({max(1, cores // 2), cores})}
    if config.reader == "pyav":
        space["decode_threads"] = sorted({1, cores})
    if hinted:
        space["hint"] = ["none", "latency"]
    return space if cores > 1 else {}


def with_knobs(config: PipelineConfig, values: dict[str, Any]) -> PipelineConfig:
    """A configuration with its knobs set; requests in flight are at least the streams."""
    options = config.options
    if values.get("streams") == BY_HINT:
        # The number of streams is for cost models only now; threads stay what all may use.
        in_flight = max(values["in_flight"], options.streams)
        options = replace(options, hint="throughput", in_flight=in_flight)
    elif "streams" in values:
        streams = values["streams"]
        threads = max(options.threads or streams, streams)
        in_flight = max(values["in_flight"], streams)
        options = replace(
            options, streams=streams, in_flight=in_flight, threads=threads, hint="none"
        )
    if "threads" in values:
        options = replace(options, threads=values["threads"])
    if "hint" in values:
        options = replace(options, hint=values["hint"])
    return replace(
        config,
        options=options,
        queue_depth=values.get("queue_depth", config.queue_depth),
        decode_threads=values.get("decode_threads", config.decode_threads),
    )


@contextmanager
def database_errors(run: RunFolder) -> Iterator[None]:
    """Turn what SQLite says about ``study.db`` into a `StorageError` that says what to do."""
    import optuna
    import sqlalchemy.exc

    target = run.path / "study.db"
    try:
        yield
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.DatabaseError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, sqlalchemy.exc.DBAPIError) else error
        said = first_line(getattr(cause, "orig", None) or cause)
        raise StorageError(
            f"'{target}' could not be used: {said}. Free some space, or remove the file if it is "
            "damaged, and run the same command again; it resumes where it stopped."
        ) from error


def _open(run: RunFolder, name: str, seed: int) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("optuna").setLevel(logging.WARNING)
    with storage_errors(run.path / "study.db"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return optuna.create_study(
            study_name=name,
            storage=f"sqlite:///{run.path / 'study.db'}",
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=6),
            load_if_exists=True,
        )


def _quick_race(
    job: Job, reference: Runner, config: PipelineConfig, time_left: Callable[[], float]
) -> float | None:
    try:
        runner = Runner(config, job.source)
    except SaccadeError:
        return None
    try:
        result = race(reference, runner, job.objective, 0.0, QUICK, time_left)
    except SaccadeError:
        if not reference.worker.alive:
            raise
        return None
    finally:
        runner.close()
    return result.comparison.ratio.value


def _winner(study: Any, incumbent: PipelineConfig) -> PipelineConfig | None:
    finished = [t for t in study.trials if t.value is not None and t.value > MIN_PROMISE]
    if not finished:
        return None
    best = max(finished, key=lambda t: t.value)
    return with_knobs(incumbent, best.params)


def _describe(params: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in params.items())
