"""What two changes gain together, beside what each gains alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations


@dataclass(frozen=True)
class Interaction:
    """Two changes and their gains over the configuration without both.

    Attributes:
        factor: gain of both over the product of the gains of each: above 1 they help each other,
            below 1 they do in part the same.
    """

    first: str
    second: str
    gain_first: float
    gain_second: float
    gain_both: float

    @property
    def factor(self) -> float:
        """See the class."""
        return self.gain_both / (self.gain_first * self.gain_second)


def interactions(rates: Mapping[frozenset[str], float]) -> tuple[Interaction, ...]:
    """Every pair whose four sets were measured, the strongest interaction first.

    Args:
        rates: set of labels → samples per second; the empty set is the start.
    """
    start = rates.get(frozenset())
    if not start:
        return ()
    labels = sorted({label for key in rates for label in key})
    found = []
    for a, b in combinations(labels, 2):
        sets = frozenset({a}), frozenset({b}), frozenset({a, b})
        if all(key in rates for key in sets):
            found.append(Interaction(a, b, *(rates[key] / start for key in sets)))
    return tuple(sorted(found, key=lambda i: -abs(i.factor - 1)))
