"""What a user who mistyped a name probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Least likeness, from 0 to 1, at which a name is worth suggesting.
LIKENESS = 0.45


def did_you_mean(name: str, known: Iterable[str], *, most: int = 1) -> str:
    """A question that ends in a space, such as ``Did you mean 'budget'? ``; empty without a guess.

    Args:
        name: what was given.
        known: what could have been given.
        most: names in the question.
    """
    near = difflib.get_close_matches(name, list(known), n=most, cutoff=LIKENESS)
    return f"Did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
