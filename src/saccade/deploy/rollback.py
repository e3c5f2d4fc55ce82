"""Back to the bundle before: what is in use and what was in use before change places."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saccade.deploy.bundle import MANIFEST, previous_of
from saccade.deploy.opened import Bundle
from saccade.deploy.places import exchange
from saccade.errors import BundleError
from saccade.study import storage_errors

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Rollback:
    """What a rollback did.

    Attributes:
        now: the bundle that is in use now.
        before: the one that was until then; None where it is not sound.
        why_unsound: what is wrong with that one; empty where nothing is.
    """

    now: Bundle
    before: Bundle | None
    why_unsound: str = ""

    def document(self) -> dict[str, Any]:
        """What is in use now and what was before, JSON-ready."""
        return {
            "schema_version": SCHEMA_VERSION,
            "bundle": str(self.now.folder),
            "now": self.now.document(),
            "previous": self.before.document() if self.before else {"unsound": self.why_unsound},
        }


def roll_back(path: str | os.PathLike[str]) -> Rollback:
    """Let the bundle in use and the one before it change places; once more, and they are back.

    The one that was in use may be damaged, since that is a reason to go back.

    Args:
        path: a bundle's folder, or a run folder that holds one.

    Raises:
        BundleError: there is no bundle before, or it was damaged; nothing was changed.
        StorageError: the folder is read-only.
    """
    target = _target(Path(path))
    previous = previous_of(target)
    if not previous.is_dir():
        raise BundleError(
            f"There is no bundle before '{target}' to go back to: '{previous.name}' is not beside "
            "it. One is kept when a run writes another bundle over an older one."
        )
    _sound(previous)
    before, why_unsound = _opened(target)
    with storage_errors(target):
        if target.exists():
            exchange(target, previous)
        else:
            previous.replace(target)
    return Rollback(Bundle.open(target), before, why_unsound)


def _target(path: Path) -> Path:
    """The bundle's folder, which may have been lost, or be in the run folder that was named."""
    inside = path / "bundle"
    held = inside.exists() or previous_of(inside).exists()
    return inside if held and not (path / MANIFEST).exists() else path


def _sound(previous: Path) -> None:
    try:
        Bundle.open(previous)
    except BundleError as error:
        raise BundleError(f"{error} Nothing was changed: it cannot be gone back to.") from error


def _opened(target: Path) -> tuple[Bundle | None, str]:
    try:
        return Bundle.open(target), ""
    except BundleError as error:
        return None, str(error)
