"""Folders of the user's for what may be deleted at any time and is dear to make again."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def user_cache(name: str, variable: str) -> Path:
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


def trim(folder: Path, limit_bytes: int, pattern: str = "*") -> None:
    """Delete the files that were not used for longest, until the others fit into the limit."""
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
