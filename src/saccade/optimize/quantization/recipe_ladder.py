"""Base of quantizations whose settings are a `Recipe` and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

from saccade.optimize.change import Ordinary, PlanContext, Tried
from saccade.optimize.quantization.ladder import FIRST, Attempt, Situation, climb, closed
from saccade.optimize.quantization.recipe import Recipe


@dataclass(frozen=True)
class RecipeLadder(Ordinary):
    """Climbs the ladder as far as `situation` says that it goes.

    Attributes:
        recipe: how to quantize.
        rung: step of the repair ladder that the recipe belongs to.
    """

    name: ClassVar[str]

    recipe: Recipe = field(default_factory=Recipe)
    rung: str = FIRST

    @property
    def label(self) -> str:
        """Name and what is special about the recipe."""
        return f"{self.name}: {self.recipe.label}"

    def next_rung(self, tried: Sequence[Tried], context: PlanContext) -> Self | None:
        """What to try when this one costs too much accuracy; None at the top."""
        attempts = [Attempt(t.change.recipe, t.change.rung, t.drop) for t in tried]
        rung, recipe = next(climb(attempts, self.situation(context)), (None, None))
        return type(self)(recipe, rung) if rung and recipe else None

    def closed_rungs(self, context: PlanContext) -> Sequence[tuple[str, str]]:
        """What ladders of other runtimes have besides, and why this one does not."""
        return tuple(closed(self.situation(context)))

    def situation(self, context: PlanContext) -> Situation:
        """What the quantizer can do for this model."""
        raise NotImplementedError
