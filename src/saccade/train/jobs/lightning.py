"""A LightningModule and a LightningDataModule, trained by saccade's loop in place of a Trainer."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from saccade.errors import DataError, MissingExtraError, SpecError
from saccade.train.config import JobReference
from saccade.train.job import TrainingJob
from saccade.train.jobs.local_modules import module_source, take_sources
from saccade.train.jobs.python_file import imported_file
from saccade.train.lightning_schedule import configured, moved_to

# Hooks that change what a step does; a training without them would be another one.
STEP_HOOKS = (
    "backward",
    "configure_gradient_clipping",
    "lr_scheduler_step",
    "on_after_backward",
    "on_after_batch_transfer",
    "on_before_batch_transfer",
    "on_before_optimizer_step",
    "on_before_zero_grad",
    "on_train_batch_end",
    "on_train_batch_start",
    "optimizer_step",
    "optimizer_zero_grad",
    "transfer_batch_to_device",
)
LOADER_OF = {"train": "train_dataloader", "val": "val_dataloader"}


class LightningJob:
    """``package.module:Module,DataModule`` or ``file.py:Module,DataModule``.

    The loss is that of ``training_step``, optimizer and schedule those of
    ``configure_optimizers``, samples, collation and batch size those of the data loaders; the order
    of the samples is saccade's own. The metric is what ``validation_step`` logs. Hooks at the
    beginning and end of epochs are not called.
    """

    looks_for: ClassVar[str] = "Lightning as file.py:Module,DataModule or package.module:Module,..."

    @staticmethod
    def recognizes(name: str) -> bool:
        """By the two names after the colon."""
        where, _, names = name.partition(":")
        return bool(where) and "," in names

    @staticmethod
    def fingerprint(name: str, settings: dict[str, str]) -> str:
        """Hash of the files that the two classes are in, and of the local modules they import.

        Raises:
            SpecError: there is no such file or module.
        """
        digest = hashlib.sha256()
        for where, attribute in _references(name):
            digest.update(attribute.encode())
            _take_source(digest, where)
        return digest.hexdigest()

    @staticmethod
    def open(reference: JobReference) -> TrainingJob:
        """Make the data module and look at the module.

        Raises:
            SpecError: one of them cannot be made, or does what saccade's loop cannot.
            DataError: a data loader cannot be used.
        """
        module, data = (_made_by(where, name) for where, name in _references(reference.name))
        return _Adapter(module, data).job()


class _Adapter:
    """Turns the two into the functions of a job."""

    def __init__(self, make_module: Callable[[], Any], make_data: Callable[[], Any]) -> None:
        from saccade.train.lightning_steps import Logged, Trainer

        self._make_module = make_module
        self._data = make_data()
        self._data.prepare_data()
        self._data.setup("fit")
        self._loaders = {split: _loader(self._data, split) for split in LOADER_OF}
        self._logged, self._trainer = Logged(), Trainer()
        self._module: Any = None

    def job(self) -> TrainingJob:
        """The job."""
        loader = self._loaders["train"]
        steps = max(1, len(loader.dataset) // loader.batch_size)
        probe = self._model()
        _refuse_other_steps(probe.module)
        probe.lasts(steps * TrainingJob.epochs, steps)
        found = configured(probe.module)
        schedule = self._each_step if found.each_step else self._each_epoch
        return TrainingJob(
            model=self._model,
            dataset=lambda split: self._loaders[split].dataset,
            loss=lambda output, target: output,
            optimizer=self._optimizer,
            transforms=lambda split: lambda sample: (split, sample),
            collate=self._collate,
            scheduler=None if found.scheduler is None else schedule,
            length_matters=self._trainer.length_asked,
            metric=self._metric,
            batch_size=loader.batch_size,
            workers=loader.num_workers,
        )

    def _model(self) -> Any:
        from saccade.train.lightning_steps import LightningSteps

        return LightningSteps(self._make_module(), self._trainer, self._logged)

    def _optimizer(self, model: Any) -> Any:
        self._module = model.module
        return configured(model.module).optimizer

    # Functions, because a job's schedule says by its arguments how often it is stepped.

    def _each_epoch(self, optimizer: Any) -> Any:
        return moved_to(configured(self._module).scheduler, optimizer)

    def _each_step(self, optimizer: Any, steps: int) -> Any:
        return moved_to(configured(self._module).scheduler, optimizer)

    def _collate(self, samples: list[Any]) -> Any:
        """The loader's own batch is the input; the module takes its target from it."""
        split = samples[0][0]
        return self._loaders[split].collate_fn([sample for _, sample in samples]), None

    def _metric(self) -> Any:
        from saccade.train.lightning_steps import LoggedMetric

        return LoggedMetric(self._logged)


def _references(name: str) -> list[tuple[str, str]]:
    """Module or file, and attribute, of each of the two; the second may leave out the first."""
    where, _, names = name.partition(":")
    first, _, second = names.partition(",")
    other, _, attribute = second.rpartition(":")
    return [(where, first.strip()), (other.strip() or where, attribute.strip())]


def _take_source(digest: Any, where: str) -> None:
    found = (Path(where), None) if where.endswith(".py") else module_source(where)
    if found is None:
        raise SpecError(
            f"The module '{where}' cannot be found. Put the folder that holds it on "
            "PYTHONPATH, or give the path of a .py file."
        )
    try:
        take_sources(digest, *found)
    except OSError as error:
        raise SpecError(f"'{found[0]}' cannot be read: {error.strerror or error}.") from error


def _made_by(where: str, name: str) -> Callable[[], Any]:
    found = getattr(_imported(where), name, None)
    if not callable(found):
        raise SpecError(
            f"'{where}' has no class or function '{name}'. Expected a LightningModule and a "
            "LightningDataModule, or functions without arguments that make them."
        )
    kind: Callable[[], Any] = found

    def make() -> Any:
        try:
            return kind()
        except TypeError as error:
            raise SpecError(
                f"'{name}' in '{where}' cannot be made without arguments: {error}. Write a "
                "function without arguments that makes it, and name that instead."
            ) from error

    return make


def _imported(where: str) -> Any:
    try:
        return (
            imported_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
        )
    except (ImportError, SpecError) as error:
        missing = getattr(error.__cause__ or error, "name", "") or ""
        if missing.partition(".")[0] in ("lightning", "pytorch_lightning"):
            raise MissingExtraError(missing, "lightning", f"'{where}'") from error
        if isinstance(error, SpecError):
            raise
        raise SpecError(f"'{where}' cannot be imported: {error}.") from error


def _loader(data: Any, split: str) -> Any:
    """The one data loader of a split.

    Raises:
        DataError: there is none, there are several, or its order is its own.
    """
    from torch.utils.data import RandomSampler, SequentialSampler

    method = LOADER_OF[split]
    try:
        found = getattr(data, method)()
    except Exception as error:
        raise DataError(
            f"The data module's {method}() failed: {type(error).__name__}: {error}. It has to "
            "return a DataLoader."
        ) from error
    if isinstance(found, list | tuple) and len(found) == 1:
        found = found[0]
    if not hasattr(found, "dataset") or getattr(found, "batch_size", None) is None:
        raise DataError(
            f"The data module's {method}() returned {type(found).__name__}. Expected one "
            "DataLoader over a map-style data set, with a batch_size."
        )
    sampler = type(found.sampler)
    if sampler not in (RandomSampler, SequentialSampler):
        raise DataError(
            f"The data module's {method}() draws samples by {sampler.__name__}, but saccade "
            "shuffles by itself, so that every configuration sees the same samples. Leave the "
            "sampler out, or repeat rare samples in the data set."
        )
    return found


def _refuse_other_steps(module: Any) -> None:
    """Refuse what would silently be left out.

    Raises:
        SpecError: the module changes what a step does.
    """
    from saccade.train.lightning_steps import overrides

    hooks = [name for name in STEP_HOOKS if overrides(module, name)]
    if not getattr(module, "automatic_optimization", True):
        hooks.insert(0, "manual optimization")
    if hooks:
        raise SpecError(
            f"The LightningModule has {', '.join(hooks)}, which saccade's loop does not call. "
            "Do it in training_step or configure_optimizers, or write a job file (`saccade train "
            "init`)."
        )
