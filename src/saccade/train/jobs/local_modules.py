"""The Python files that a job imports from its own folder, found without running any of them.

They define the job as much as its own file does. Imports are read from the source, as they are
written, for a job is referred to where its code must not run: a module whose name is only put
together while the job runs is not found.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Calls that import the module that their first argument names.
IMPORTING = ("import_module", "__import__")
# Folders of what others wrote, which versions in the configuration's hash stand for.
INSTALLED = frozenset({"site-packages", "dist-packages"})


def take_sources(digest: Any, file: Path, root: Path | None = None) -> None:
    """Update a hash with a file and with the local modules that it imports, by their names.

    A file that imports none counts with nothing but its own content.

    Args:
        digest: of `hashlib`.
        file: that the job is in.
        root: folder that its modules are imported from; None for that which the file really is in.

    Raises:
        OSError: a file cannot be read.
    """
    digest.update(file.read_bytes())
    place = root.resolve() if root is not None else file.resolve().parent
    for path in local_modules(file, place):
        content = path.read_bytes()
        digest.update(f"\n{path.relative_to(place).as_posix()} {len(content)}\n".encode())
        digest.update(content)


def module_source(where: str) -> tuple[Path, Path] | None:
    """The file of a module that is named with dots, and the folder that it is imported from.

    Its outermost package may be run for that. None where there is no such module in Python.
    """
    try:
        spec = importlib.util.find_spec(where)
    except (ImportError, ValueError):
        return None
    path = Path(spec.origin) if spec is not None and spec.origin is not None else Path()
    if path.suffix != ".py":
        return None
    return path, path.parents[where.count(".") + (path.name == "__init__.py")]


def local_modules(file: Path, root: Path) -> list[Path]:
    """Files under ``root`` that a file imports, and that these import, in order of their names.

    Args:
        file: that the job is in; it is not among them.
        root: folder that modules are imported from, resolved.

    Raises:
        OSError: a file cannot be read.
    """
    first = file.resolve()
    seen, left = {first}, [first]
    while left:
        path = left.pop()
        for name in imported_names(path.read_bytes(), _package_of(path, root)):
            fresh = set(_files_of(name, root)) - seen
            seen |= fresh
            left += fresh
    return sorted(seen - {first})


def _package_of(path: Path, root: Path) -> str:
    inside = path.parent.is_relative_to(root)  # a link may lead out of it
    return ".".join(path.parent.relative_to(root).parts) if inside else ""


def imported_names(source: bytes, package: str = "") -> Iterator[str]:
    """Full names of what a source text may import, also within its functions.

    Args:
        source: of a module; one that cannot be parsed imports nothing.
        package: that it is in, for relative imports; empty for none.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        found = _NAMES.get(type(node))
        if found is not None:
            yield from found(node, package)


def _of_import(node: ast.Import, package: str) -> Iterator[str]:
    yield from (alias.name for alias in node.names)


def _of_import_from(node: ast.ImportFrom, package: str) -> Iterator[str]:
    base = node.module or ""
    if node.level:
        try:
            base = importlib.util.resolve_name("." * node.level + base, package)
        except ImportError:  # beyond the outermost package; running it says so
            return
    yield base
    # What is taken from a package may be one of its modules.
    yield from (f"{base}.{alias.name}" for alias in node.names)


def _of_call(node: ast.Call, package: str) -> Iterator[str]:
    called = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
    first = getattr(node.args[0], "value", None) if node.args else None
    if called in IMPORTING and type(first) is str:
        yield first


_NAMES: dict[type, Any] = {
    ast.Import: _of_import,
    ast.ImportFrom: _of_import_from,
    ast.Call: _of_call,
}


def _files_of(name: str, root: Path) -> Iterator[Path]:
    """The files that importing a module runs: its packages and itself."""
    place = root
    for part in filter(None, name.split(".")):
        place = place / part
        for path in (place.with_name(f"{part}.py"), place / "__init__.py"):
            if path.is_file() and not INSTALLED.intersection(path.parts):
                yield path
