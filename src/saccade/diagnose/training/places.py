"""Names the places in the user's code that a rule is about. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from saccade.train.profile import Synchronisation

SHOWN = 3


def places(found: Sequence[Synchronisation]) -> str:
    """The first few of them with file, line and function, and how many more there are."""
    named = "; ".join(_place(sync) for sync in found[:SHOWN])
    return named + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")


def _place(sync: Synchronisation) -> str:
    where = f"{PurePath(sync.where).name} in {sync.function}()" if sync.where else "PyTorch"
    return f"{sync.operator} at {where}, {sync.per_step:.0f} per step"
