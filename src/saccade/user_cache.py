"""Folders of the user's for what may be deleted at any time and is dear to make again."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

# What a variable says instead of a folder where nothing is to be kept.
OFF = ("off", "0", "no", "false")


def user_cache(name: str, variable: str) -> Path | None:
    """Where to keep what can be done without; None where it is `OFF`, or there is no home.

    Args:
        name: as for `user_folder`.
        variable: likewise.
    """
    if os.environ.get(variable, "").lower() in OFF:
        return None
    try:
        return user_folder(name, variable)
    except RuntimeError:  # as `Path.expanduser` says it
        return None


def user_folder(name: str, variable: str) -> Path:
    """Where one kind of thing is kept; the folder need not exist.

    Args:
        name: of the folder, under ``saccade`` in the user's cache folder.
        variable: environment variable that names another folder instead.
    """
    chosen = os.environ.get(variable)
    if chosen:
        return Path(chosen).expanduser().resolve()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "saccade" / name


def trim(folder: Path, limit_bytes: int, pattern: str) -> None:
    """Delete the files that were not used for longest, until the others fit into the limit.

    Args:
        folder: may be one that the user named, and hold other things.
        limit_bytes: for all the files together.
        pattern: of the names of those that we wrote.
    """
    found = []
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):  # another process may trim at the same time
            stat = path.stat()
            found.append((max(stat.st_atime, stat.st_mtime), stat.st_size, path))
    left = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if left <= limit_bytes:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        left -= size
