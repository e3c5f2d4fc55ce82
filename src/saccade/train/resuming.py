"""Whether a checkpoint belongs to a training, and the configuration with which it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from saccade.errors import SpecError
from saccade.train.config import JobReference, TrainingConfig
from saccade.train.job import TrainingJob

# What may differ between processes of one training: how much broken data is allowed. Of the job,
# where its file lies.
_FREE = ("job", "max_corrupt")


def checkpoint_content(
    config: TrainingConfig, asked: TrainingConfig, epochs: int
) -> dict[str, Any]:
    """What is saved of a configuration; `resumed_config` reads it.

    Args:
        config: as it is trained now.
        asked: as the user asked for it.
        epochs: of the whole training.
    """
    return {"config": config.to_dict(), "asked": asked.to_dict(), "epochs": epochs}


def resumed_config(
    content: Mapping[str, Any], asked: TrainingConfig, epochs: int, job: TrainingJob
) -> TrainingConfig:
    """The configuration of a checkpoint, where it is of the same training.

    Raises:
        SpecError: it is of another job or configuration, or of another length that its schedule
            of learning rates depends on.
    """
    saved = TrainingConfig.from_dict(content["config"])
    before = TrainingConfig.from_dict(content["asked"])
    if before.job.name != asked.job.name and before.job.sha256 != asked.job.sha256:
        raise SpecError(
            f"This folder holds the training of another job ('{before.job.name}'). Choose another "
            "--out, or begin again with --restart."
        )
    differing = _other_settings(before.job, asked.job) + _differing(before, asked)
    if differing:
        raise SpecError(
            f"The checkpoints in this folder were made with another {', '.join(differing)}. Use "
            "the same settings, choose another --out, or begin again with --restart."
        )
    if saved.job.sha256 != asked.job.sha256:
        raise SpecError(
            f"The checkpoints in this folder are of another state of the job '{asked.job.name}'. "
            "Bring the job back to what it was, choose another --out, or begin again with "
            "--restart."
        )
    if content["epochs"] != epochs and job.schedule_needs_length:
        raise SpecError(
            f"This training was begun for {content['epochs']} epochs, and its schedule of "
            f"learning rates depends on that, so it cannot become {epochs}. Leave out --epochs, "
            "choose another --out, or begin again with --restart."
        )
    # Want of memory changes these two on the way: see `saccade.train.batch_fit.halved`.
    return replace(asked, batch=saved.batch).with_compute(compile=saved.compute.compile)


def _other_settings(before: JobReference, asked: JobReference) -> list[str]:
    """Names of a job's settings that differ, such as ``data``."""
    a, b = before.settings, asked.settings
    # The hash holds the content of weights, so that these may lie elsewhere.
    same = {"weights"} if before.sha256 == asked.sha256 else set()
    return sorted(name for name in {*a, *b} - same if a.get(name, "") != b.get(name, ""))


def _differing(a: TrainingConfig, b: TrainingConfig) -> list[str]:
    """Names of the settings that differ, such as ``compute.precision``."""
    first, second = a.to_dict(), b.to_dict()
    found = []
    for name, value in first.items():
        if name in _FREE or value == second[name]:
            continue
        if isinstance(value, dict):
            found += [f"{name}.{key}" for key in value if value[key] != second[name][key]]
        else:
            found.append(name)
    return found
