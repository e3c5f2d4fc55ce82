"""A Python file with functions that return plain torch objects. No base class to inherit."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from saccade.errors import SpecError
from saccade.suggest import did_you_mean
from saccade.train.config import JobReference
from saccade.train.job import TrainingJob
from saccade.train.jobs.local_modules import take_sources

NEEDED = ("model", "dataset", "loss", "optimizer")
OPTIONAL = ("transforms", "collate", "scheduler", "metric")
# Constants of a job: what is expected, and whether a value is that.
NUMBERS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "batch_size": ("a whole number from 1", lambda v: isinstance(v, int) and v >= 1),
    "accumulation": ("a whole number from 1", lambda v: isinstance(v, int) and v >= 1),
    "epochs": ("a whole number from 1", lambda v: isinstance(v, int) and v >= 1),
    "workers": ("a whole number from 0", lambda v: isinstance(v, int) and v >= 0),
    "max_corrupt": ("a share from 0 to 1", lambda v: isinstance(v, int | float) and 0 <= v <= 1),
    "device": ("'cpu' or 'cuda'", lambda v: isinstance(v, str)),
}


class PythonFileJob:
    """``job.py``, as `saccade train init` writes one."""

    looks_for: ClassVar[str] = "a Python file such as job.py (`saccade train init` writes one)"

    @staticmethod
    def recognizes(name: str) -> bool:
        """By its suffix."""
        return name.endswith(".py")

    @staticmethod
    def fingerprint(name: str, settings: dict[str, str]) -> str:
        """Hash of the file and of the modules in its folder that it imports.

        Raises:
            SpecError: it cannot be read.
        """
        digest = hashlib.sha256()
        try:
            take_sources(digest, Path(name))
            return digest.hexdigest()
        except OSError as error:
            raise SpecError(
                f"The job '{name}' cannot be read: {error.strerror or error}. Give the path of a "
                "Python file; `saccade train init` writes one."
            ) from error

    @staticmethod
    def open(reference: JobReference) -> TrainingJob:
        """Import the file and pick its functions.

        Raises:
            SpecError: it cannot be imported, or a function is missing or is not one.
        """
        return job_of(imported_file(Path(reference.name)))


def job_of(module: ModuleType) -> TrainingJob:
    """The job whose functions and constants a module holds.

    Raises:
        SpecError: a function is missing or is not one, or a constant is out of range.
    """
    found = {name: _function(module, name) for name in NEEDED}
    found |= {name: _function(module, name) for name in OPTIONAL if hasattr(module, name)}
    return TrainingJob(**found, **_numbers(module))


def imported_file(path: Path) -> ModuleType:
    """A Python file as a module of its own.

    Raises:
        SpecError: it cannot be imported.
    """
    # Under a name of its own, so that a job called `torch.py` hides nothing.
    name = f"saccade_job_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Loader workers find the functions by the module's name when they are started afresh.
    sys.modules[name] = module
    if str(path.resolve().parent) not in sys.path:
        sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise SpecError(
            f"The job '{path}' cannot be imported: {type(error).__name__}: {error}. Run "
            f"`python {path.name}` in its folder to see where."
        ) from error
    return module


def _function(module: ModuleType, name: str) -> Any:
    found = getattr(module, name, None)
    if found is None:
        own = [key for key in vars(module) if not key.startswith("_")]
        raise SpecError(
            f"The job '{module.__file__}' has no function '{name}'. "
            f"{did_you_mean(name, own)}A job needs {', '.join(NEEDED)} and may have "
            f"{', '.join(OPTIONAL)}."
        )
    if not callable(found):
        raise SpecError(
            f"'{name}' of the job '{module.__file__}' is {type(found).__name__}, not a function."
        )
    return found


def _numbers(module: ModuleType) -> dict[str, Any]:
    given = {name: getattr(module, name) for name in NUMBERS if hasattr(module, name)}
    for name, value in given.items():
        expected, fits = NUMBERS[name]
        if isinstance(value, bool) or not fits(value):
            raise SpecError(
                f"'{name}' of the job '{module.__file__}' is {value!r}. Expected {expected}."
            )
    return given
