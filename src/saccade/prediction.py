"""What changes of a pipeline and of a training have in common, before anything is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

# What a change does to outputs: nothing, almost nothing, or something only labels can judge.
Effect = Literal["exact", "near_lossless", "lossy"]


@dataclass(frozen=True)
class Prediction:
    """What a change is expected to bring.

    Attributes:
        gain: expected ratio of the objective, above 1 is better.
        bound: the ratio it cannot exceed.
        basis: what the expectation rests on, one clause.
        cost_s: seconds it takes to apply, without measuring.
        odds: prior chance, 0-1, that the accuracy guard lets it stay.
        shrinks: metric of size → expected ratio to now, below 1 is smaller.
    """

    gain: float
    bound: float
    basis: str
    cost_s: float = 0.0
    odds: float = 1.0
    shrinks: Mapping[str, float] = field(default_factory=dict)


class OneVariant:
    """Base of changes without a parameter worth varying; they are called by their name."""

    name: ClassVar[str]

    @classmethod
    def variants(cls, context: Any) -> Iterable[Self]:
        """One."""
        return [cls()]

    @property
    def label(self) -> str:
        """Name."""
        return self.name
