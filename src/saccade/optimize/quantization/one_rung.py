"""Base of quantizations with one setting: their ladder's log says why nothing else was tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from saccade.optimize.change import OneVariant, PlanContext
from saccade.optimize.quantization.ladder import FIRST, RUNGS


class OneRung(OneVariant):
    """A ladder that ends where it begins.

    Attributes:
        closed: why the rungs that other runtimes have are not there.
    """

    closed: ClassVar[str]

    @property
    def rung(self) -> str:
        """The only one."""
        return FIRST

    def closed_rungs(self, context: PlanContext) -> Sequence[tuple[str, str]]:
        """All of the other runtimes' rungs."""
        return tuple((rung.name, self.closed) for rung in RUNGS)
