"""`TrainingJob`: what the user brings, as functions that return plain torch objects."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from saccade import plugins
from saccade.errors import SpecError
from saccade.train.config import JobReference
from saccade.train.explaining import explained

Split = str  # "train" or "val"
# From a trained model, an input of one sample and a folder to a file in it.
Exporter = Callable[[Any, Any, Path], Path]


@dataclass(frozen=True)
class TrainingJob:
    """A job. Everything is called in the worker that trains, never where saccade plans.

    Attributes:
        model: makes the untrained ``nn.Module``.
        dataset: split → a map-style data set of raw samples. A sample is a tuple; paths of image
            files in it are decoded by saccade: the first to ``(H, W, 3)`` uint8 RGB, whatever the
            file holds; further ones likewise, or to ``(H, W)`` where they hold indices or greys.
        loss: ``loss(output, target)`` → scalar tensor.
        optimizer: model → optimizer.
        transforms: split → a callable from a decoded sample to ``(input, target)``.
        collate: list of ``(input, target)`` → one ``(input, target)`` of batches.
        scheduler: ``scheduler(optimizer)``, stepped once an epoch, or
            ``scheduler(optimizer, steps)``, stepped once a step, of ``steps`` in all.
        metric: ``metric(output, target)`` → number, larger is better, averaged over samples; or
            ``metric()`` → an object with ``update(output, target)`` and ``compute()``.
        batch_size: samples of a forward pass in the user's own script.
        accumulation: forward passes of an optimizer step there; the effective batch is the product.
        epochs: passes over the data of a whole training.
        workers: loader workers in the user's own script.
        max_corrupt: share of the samples that may be unreadable.
        device: where it trains in the user's own script; empty for a GPU where there is one.
        length_matters: optimizer or schedule depend on how long the training is, without being
            told by an argument.
        export: ``export(model, example, folder)`` → the file that is deployed, for models that are
            more while they train than afterwards; None for an exported program.
    """

    model: Callable[[], Any]
    dataset: Callable[[Split], Any]
    loss: Callable[[Any, Any], Any]
    optimizer: Callable[[Any], Any]
    transforms: Callable[[Split], Callable[[Any], Any] | None] | None = None
    collate: Callable[[list[Any]], Any] | None = None
    scheduler: Callable[..., Any] | None = None
    metric: Callable[..., Any] | None = None
    batch_size: int = 8
    accumulation: int = 1
    epochs: int = 10
    workers: int = 0
    max_corrupt: float = 0.01
    device: str = ""
    length_matters: bool = False
    export: Exporter | None = None

    @property
    def exporter(self) -> Exporter:
        """What writes the file that is deployed."""
        from saccade.train.exporting import export_program

        return self.export or export_program

    @property
    def schedule_needs_length(self) -> bool:
        """Whether learning rates are made for a number of steps, which is then fixed."""
        return self.length_matters or self._each_step

    @property
    def _each_step(self) -> bool:
        """Whether the schedule is made for a number of steps, and stepped once a step."""
        if self.scheduler is None:
            return False
        return len(inspect.signature(self.scheduler).parameters) > 1

    def make_scheduler(self, optimizer: Any, steps: int) -> tuple[Any | None, bool]:
        """The scheduler, and whether it is stepped once a step.

        Raises:
            SpecError: the job's function failed.
        """
        if self.scheduler is None:
            return None, False
        each_step = self._each_step
        with explained("scheduler", optimizer):
            made = self.scheduler(optimizer, steps) if each_step else self.scheduler(optimizer)
        return made, each_step


class JobKind(Protocol):
    """A kind of job: says whether a name is its own, and opens it.

    Attributes:
        looks_for: what it accepts, for messages.
    """

    looks_for: ClassVar[str]

    @staticmethod
    def recognizes(name: str) -> bool:
        """Whether ``name`` looks like this kind (cheap)."""
        ...

    @staticmethod
    def fingerprint(name: str, settings: dict[str, str]) -> str:
        """SHA-256 of what defines the job.

        Raises:
            SpecError: there is no such job.
        """
        ...

    @staticmethod
    def open(reference: JobReference) -> TrainingJob:
        """The job itself; imports torch and runs the user's code.

        Raises:
            SpecError: it is not a job, or its code fails.
        """
        ...


def refer(name: str, settings: dict[str, str] | None = None) -> JobReference:
    """A reference to the job that the user named.

    Raises:
        SpecError: no kind of job recognizes it.
    """
    given = settings or {}
    for kind in plugins.names("training_jobs"):
        plugin = plugins.load("training_jobs", kind)
        if plugin.recognizes(name):
            return JobReference(name, kind, fingerprint(kind, name, given), given)
    known = "; ".join(
        plugins.load("training_jobs", kind).looks_for for kind in plugins.names("training_jobs")
    )
    raise SpecError(f"'{name}' is no training job. Expected one of: {known}.")


def fingerprint(kind: str, name: str, settings: Mapping[str, str]) -> str:
    """SHA-256 of what defines a job: of what its kind says, and of the weights it starts from.

    Raises:
        SpecError: there is no such job, or there are no such weights.
    """
    own: str = plugins.load("training_jobs", kind).fingerprint(name, dict(settings))
    weights = settings.get("weights")
    if not weights:
        return own
    try:
        with Path(weights).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SpecError(
            f"The weights '{weights}' cannot be read: {error.strerror or error}. Give the path of "
            "a state dict."
        ) from error
    return hashlib.sha256(f"{own} {content}".encode()).hexdigest()


def open_job(reference: JobReference) -> TrainingJob:
    """The job behind a reference.

    Raises:
        SpecError: it is not a job, or its code fails.
    """
    job: TrainingJob = plugins.load("training_jobs", reference.kind).open(reference)
    weights, recipes = (reference.settings.get(key) for key in ("weights", "recipe"))
    if weights:
        from saccade.train.trainable import start_from

        made = job.model
        job = replace(job, model=lambda: start_from(made(), Path(weights), whole=bool(recipes)))
    if recipes:
        from saccade.train.recipe import with_recipes

        job = with_recipes(job, recipes, trained=bool(weights))
    return job
