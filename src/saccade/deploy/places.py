"""Folders that change places, so that there is always a whole one where one is looked for."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from pathlib import Path

# Linux: names relative to the current folder, and the flag that makes a renaming an exchange.
_HERE, _EXCHANGE = -100, 2


def swap_in(folder: Path, target: Path, keep: Path | None = None) -> None:
    """Put ``folder`` where ``target`` is; if that fails, the old one is back in its place.

    Args:
        folder: what comes.
        target: where it goes.
        keep: where the old one goes, in place of what lies there; without, it is removed.
    """
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    try:
        folder.replace(target)
    except BaseException:
        if old.exists():
            old.replace(target)
        raise
    if keep is not None and old.exists():
        shutil.rmtree(keep, ignore_errors=True)
        old.replace(keep)
    shutil.rmtree(old, ignore_errors=True)


def exchange(first: Path, second: Path) -> None:
    """Let two folders beside each other change places: at once where the system can do that.

    Raises:
        OSError: it failed; both are where they were.
    """
    if not _exchanged_at_once(first, second):
        _exchanged_in_turns(first, second)


def _exchanged_at_once(first: Path, second: Path) -> bool:
    """Whether Linux did it in one step; some file systems cannot."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    return bool(rename(_HERE, os.fsencode(first), _HERE, os.fsencode(second), _EXCHANGE) == 0)


def _exchanged_in_turns(first: Path, second: Path) -> None:
    aside = first.with_name(f".{first.name}.aside")
    shutil.rmtree(aside, ignore_errors=True)
    first.replace(aside)
    try:
        second.replace(first)
    except BaseException:
        aside.replace(first)
        raise
    aside.replace(second)
