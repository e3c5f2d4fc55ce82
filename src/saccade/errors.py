"""The exception tree and the exit code each branch ends the command with.

    SaccadeError                  1  anything else
    ├── InputError                2  bad usage or input: what was wrong and what to do
    │   ├── SpecError                the spec or a flag
    │   ├── GoalError                a goal that is impossible or cannot be judged
    │   ├── DataError                images, labels, video
    │   ├── ModelError               the model file, or what it turned out to be
    │   ├── BundleError              a bundle that is incomplete or was tampered with
    │   ├── MissingExtraError        an optional package is not installed
    │   └── MissingEnvironmentError  a tool environment is not installed
    ├── RuntimeFailure            1  an inference runtime refused, crashed or returned garbage
    │   └── WorkerFailure            the process that ran it died, hung or ran out of memory
    ├── ChangeFailure             1  a change failed in a way that nobody foresaw
    ├── ChangeRefused             1  a change found by measuring that it does not pay
    ├── NonFiniteLoss             1  the loss of a training became infinite or NaN
    ├── OutOfMemory               1  a training's batch does not fit into memory
    └── StorageError              1  the run folder cannot be written (disk full, permissions)

The first sentence of every message says what was wrong; the rest says what was
expected and what to do about it.
"""

from __future__ import annotations

EXIT_MET = 0
EXIT_ERROR = 1
EXIT_INPUT = 2
EXIT_NOT_MET = 3
EXIT_INCONCLUSIVE = 4


class SaccadeError(Exception):
    """Anything saccade raises on purpose."""

    exit_code: int = EXIT_ERROR


class InputError(SaccadeError):
    """The user's input cannot be used as it is."""

    exit_code = EXIT_INPUT


class SpecError(InputError):
    """The spec or a flag is wrong."""


class GoalError(InputError):
    """A goal cannot be parsed, cannot be met by anything, or cannot be judged."""


class DataError(InputError):
    """Images, labels or video cannot be used."""


class ModelError(InputError):
    """The model file is unreadable or is not what the task needs."""


class BundleError(InputError):
    """A bundle is incomplete, was changed after it was written, or is too new."""


class MissingExtraError(InputError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed. "
            f"Install it with: pip install 'saccade[{extra}]'"
        )


class MissingEnvironmentError(InputError):
    """A tool is needed that lives in an environment of its own, which is not installed."""


class RuntimeFailure(SaccadeError):  # noqa: N818 - a failure of a runtime, in the field's words
    """An inference runtime refused a model, crashed, or returned garbage."""


class WorkerFailure(RuntimeFailure):
    """The worker process died, hung, or ran out of memory."""


class ChangeFailure(SaccadeError):  # noqa: N818
    """A change failed in a way that nobody foresaw: a fault of saccade's or of a library's."""


class ChangeRefused(SaccadeError):  # noqa: N818 - what happened to the change
    """A change measured itself before it was finished, and found that it does not pay."""


class NonFiniteLoss(SaccadeError):  # noqa: N818 - what happened to the training
    """The loss of a training became infinite or NaN."""


class OutOfMemory(SaccadeError):  # noqa: N818 - the field's words
    """A training's batch does not fit into memory.

    Attributes:
        batch_size: samples that were to be computed at once by the process that failed.
    """

    def __init__(self, message: str, batch_size: int = 1) -> None:
        super().__init__(message)
        self.batch_size = batch_size


class StorageError(SaccadeError):
    """The run folder cannot be written."""


def first_line(error: BaseException) -> str:
    """The first line of an error, for one-line messages."""
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
