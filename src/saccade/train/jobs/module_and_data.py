"""A plain ``nn.Module`` and labelled data: saccade makes the rest of the job."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from saccade import plugins
from saccade.errors import SpecError
from saccade.train.config import JobReference
from saccade.train.job import TrainingJob
from saccade.train.jobs.local_modules import module_source, take_sources
from saccade.train.jobs.python_file import job_of
from saccade.train.templates_of import template_module, template_path, template_tasks
from saccade.train.trainable import build_trainable

# Sources of models whose modules can be trained; an exported or converted program cannot.
SOURCES = ("torchvision", "timm", "factory")
NEEDED = ("task", "data")


class ModuleAndDataJob:
    """``torchvision:resnet18``, ``timm:NAME`` or a factory, with ``task`` and ``data``.

    Data set, transforms, loss, optimizer and metric are those of the job file that `saccade train
    init` writes for the task.
    """

    looks_for: ClassVar[str] = (
        "a model such as torchvision:resnet18 or module:factory, with --task and --data"
    )

    @staticmethod
    def recognizes(name: str) -> bool:
        """Where a source of models whose modules can be trained does."""
        return _source_of(name) is not None

    @staticmethod
    def fingerprint(name: str, settings: dict[str, str]) -> str:
        """Hash of the reference, the task's job file, and the code of a factory with its modules.

        Raises:
            SpecError: task or data are missing, or there is no such task.
        """
        missing = [key for key in NEEDED if not settings.get(key)]
        if missing:
            raise SpecError(
                f"To train '{name}' saccade has to know its {' and '.join(missing)}. Give "
                f"{' and '.join(f'--{key}' for key in missing)}; tasks are "
                f"{', '.join(template_tasks())}. A Lightning module comes with its data module "
                "instead, as in file.py:Module,DataModule."
            )
        where, _, attribute = name.rpartition(":")
        is_file = Path(where).is_file()
        # A file is what it holds, wherever it lies and from wherever it is named.
        digest = hashlib.sha256((attribute if is_file else name).encode())
        digest.update(template_path(settings["task"]).read_bytes())
        if is_file:
            take_sources(digest, Path(where))
        elif _source_of(name) == "factory" and (found := module_source(where)) is not None:
            take_sources(digest, *found)
        return digest.hexdigest()

    @staticmethod
    def open(reference: JobReference) -> TrainingJob:
        """The task's own job, with this model.

        Raises:
            SpecError: there is no such task.
        """
        task, data = (reference.settings[key] for key in NEEDED)
        job = job_of(template_module(task, data))
        name = reference.name
        return replace(
            job, model=lambda: build_trainable(name, task, len(job.dataset("train").class_names))
        )


def _source_of(name: str) -> str | None:
    """Plug-in name of the source that a model is from."""
    return next((s for s in SOURCES if plugins.load("sources", s).recognizes(name)), None)
