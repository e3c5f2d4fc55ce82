"""What an architecture plug-in is: from the job's untrained module to the one that is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

# Makes the model's input, a batch of two, on the CPU. Reads samples, so it is made on demand.
Example = Callable[[], Any]


class Architecture(Protocol):
    """A kind of change of the architecture.

    Attributes:
        expected_gain: how many times faster steps are expected to be, before anybody has tried.
        basis: what that rests on, one clause.
        needs_dense: it works on 2D convolutions of 3×3 and more, and without any does nothing.
    """

    expected_gain: ClassVar[float]
    basis: ClassVar[str]
    needs_dense: ClassVar[bool]

    @staticmethod
    def available() -> str | None:
        """None where it can be used here, else what is missing and how to get it."""
        ...

    @staticmethod
    def changed(model: Any, example: Example) -> Any:
        """The module to train; may change ``model`` in place. Random numbers are seeded already.

        Raises:
            SpecError: it does nothing to this model, or the model does not run with it.
            MissingExtraError: a package is not installed.
        """
        ...
