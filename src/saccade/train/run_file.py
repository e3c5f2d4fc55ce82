"""``training.json``: which job a run folder trains, under which configuration, and for how long."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

from saccade.errors import SpecError
from saccade.study import RunFolder
from saccade.train.config import JobReference, TrainingConfig
from saccade.train.job import fingerprint

RUN_FILE = "training.json"


@dataclass(frozen=True)
class RunFile:
    """What a run folder trains.

    Attributes:
        config: how, with a reference to the job.
        epochs: passes over the data of the whole training.
    """

    config: TrainingConfig
    epochs: int


def write_run_file(folder: Path, config: TrainingConfig, epochs: int) -> Path:
    """Write ``training.json`` whole or not at all; a job's file is named by its full path.

    Raises:
        StorageError: the disk refused.
    """
    # Another folder may be the current one when the file is read.
    job = replace(config.job, name=absolute_name(config.job.name, Path()))
    placed = replace(config, job=job)
    document = {"job": placed.to_dict()["job"], "config": placed.to_dict(), "epochs": epochs}
    return RunFolder(folder).write_json(RUN_FILE, document)


def read_run_file(folder: Path) -> RunFile:
    """Read ``training.json``.

    Raises:
        SpecError: there is none, or it cannot be understood.
    """
    path = folder / RUN_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return RunFile(TrainingConfig.from_dict(document["config"]), int(document["epochs"]))
    except OSError as error:
        raise SpecError(
            f"'{folder}' holds no training (no readable {RUN_FILE}). Give a folder that `saccade "
            "train optimize` has finished, or a job with --out."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise SpecError(
            f"'{path}' cannot be understood: {type(error).__name__}: {error}. Run `saccade train "
            "optimize` again, or give the job itself."
        ) from error


def check_job_unchanged(reference: JobReference) -> None:
    """Whether the job is still what it was when its configuration was found.

    Raises:
        SpecError: it was changed, or is not there any more.
    """
    now = fingerprint(reference.kind, reference.name, reference.settings)
    if now != reference.sha256:
        raise SpecError(
            f"The job '{reference.name}' was changed since this run began (SHA-256 {now[:8]} "
            f"instead of {reference.sha256[:8]}), so its configuration and checkpoints may not "
            "fit. Bring the job back to what it was, run `saccade train optimize` again, or train "
            f"the new job from the start: saccade train run {reference.name} --out <new folder>."
        )


def absolute_name(name: str, base: Path) -> str:
    """A job's name with the files in it by their full paths.

    A name may hold paths of files, each before a colon: ``file.py:Module,other.py:DataModule``.

    Args:
        name: what the user calls the job.
        base: the folder that paths in it are relative to.
    """
    if (base / name).is_file():
        return os.path.abspath(base / name)  # noqa: PTH100 - as `saccade.spec` does
    return ",".join(_placed(part, base) for part in name.split(","))


def _placed(part: str, base: Path) -> str:
    where, colon, attribute = part.rpartition(":")
    path = base / where.strip()
    placed = f"{os.path.abspath(path)}{colon}{attribute}"  # noqa: PTH100
    return placed if colon and path.is_file() else part
