"""A YOLO ``data.yaml``: which images make a split, and what the classes are called."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saccade.data.contract import DataProblem
from saccade.data.images import display_path, is_image_name, walk_images
from saccade.errors import DataError

_GLOB = frozenset("*?[")


@dataclass(frozen=True)
class YoloYaml:
    """What a ``data.yaml`` says.

    Attributes:
        source: the file, or the folder where there is none, for messages.
        roots: folders that relative entries may be relative to, most likely first.
        entries: split name (``train``, ``val``) to its folders, list files, globs or images.
        class_names: empty where unknown.
        keypoints: whether labels carry keypoints after the box.
    """

    source: str
    roots: tuple[Path, ...]
    entries: dict[str, tuple[str, ...]]
    class_names: tuple[str, ...]
    keypoints: bool = False


@dataclass(frozen=True)
class SplitFiles:
    """The image files of one split, each once.

    Attributes:
        paths: existing files.
        missing: how many listed files do not exist.
        problems: missing files and duplicates.
    """

    paths: tuple[Path, ...]
    missing: int
    problems: tuple[DataProblem, ...]


def find_yaml(path: Path) -> Path | None:
    """The YAML file that ``path`` is or holds: ``data.yaml``, or another that names splits."""
    if path.is_file():
        return path if path.suffix.lower() in (".yaml", ".yml") else None
    for name in ("data.yaml", "data.yml"):
        if (path / name).is_file():
            return path / name
    others = (*path.glob("*.yaml"), *path.glob("*.yml"))
    return next((file for file in sorted(others) if _names_splits(file)), None)


def load_yaml(path: Path) -> YoloYaml:
    """Read a ``data.yaml``.

    Raises:
        DataError: it is not YAML, names no split, or its classes contradict each other.
    """
    import yaml

    shown = display_path(path)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8-sig", errors="replace"))
    except OSError as error:
        raise DataError(f"{shown} cannot be opened: {error.strerror or error}.") from error
    except yaml.YAMLError as error:
        raise DataError(f"{shown} is not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise DataError(f"{shown} is not a YOLO data file: expected keys train, val and names.")
    entries = {split: _entries(document, split, shown) for split in ("train", "val")}
    if not entries["val"]:
        entries["val"] = _entries(document, "test", shown)
    if not any(entries.values()):
        raise DataError(
            f"{shown} names no images: expected 'train' and 'val', each a folder, a list file or "
            f"a list of them. It has: {', '.join(map(str, document)) or 'nothing'}."
        )
    return YoloYaml(
        shown,
        _roots(path.parent, document.get("path")),
        entries,
        _class_names(document, shown),
        "kpt_shape" in document,
    )


def split_files(config: YoloYaml, split: str) -> SplitFiles | None:
    """The images of a split; None where none of its entries exists.

    Raises:
        DataError: a list file cannot be read.
    """
    paths: list[Path] = []
    found = False
    for entry in config.entries[split]:
        images = _resolve(entry, config.roots)
        found = found or images is not None
        paths.extend(images or ())
    return _once(paths) if found else None


def tried_paths(config: YoloYaml, split: str) -> str:
    """Where the entries of a split were looked for, for messages."""
    candidates = [root / entry for entry in config.entries[split] for root in config.roots]
    return ", ".join(dict.fromkeys(display_path(path) for path in candidates))


def _names_splits(path: Path) -> bool:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    keys = {line.partition(":")[0] for line in lines if ":" in line}
    return "names" in keys and bool(keys & {"train", "val"})


def _entries(document: dict[Any, Any], split: str, source: str) -> tuple[str, ...]:
    value = document.get(split)
    values = value if isinstance(value, list) else [value] if value else []
    if not all(isinstance(item, str) for item in values):
        raise DataError(f"'{split}' in {source} is {value!r}; expected a path or a list of paths.")
    return tuple(item.replace("\\", "/") for item in values)


def _roots(folder: Path, named: Any) -> tuple[Path, ...]:
    # 'path' is meant relative to the YAML file here and to a data folder in other tools, and is
    # often left as it was on the machine it was written on.
    roots = [folder / str(named).replace("\\", "/"), Path(str(named))] if named else []
    return tuple(dict.fromkeys([*(root for root in roots if root.is_dir()), folder]))


def _class_names(document: dict[Any, Any], source: str) -> tuple[str, ...]:
    names, count = document.get("names"), document.get("nc")
    if names is None:
        return tuple(f"class{index}" for index in range(count)) if isinstance(count, int) else ()
    if isinstance(names, dict):
        names = _names_in_order(names, source)
    if not isinstance(names, list):
        raise DataError(f"'names' in {source} is {names!r}; expected a list or a map from ids.")
    if isinstance(count, int) and count != len(names):
        raise DataError(
            f"{source} says nc: {count} but names {len(names)} classes. Correct one of them."
        )
    return tuple(str(name) for name in names)


def _names_in_order(names: dict[Any, Any], source: str) -> list[Any]:
    try:
        by_id = {int(key): value for key, value in names.items()}
    except (TypeError, ValueError) as error:
        raise DataError(
            f"'names' in {source} has a key that is not a whole number: {error}."
        ) from error
    missing = sorted(set(range(len(by_id))) - set(by_id))
    if missing:
        raise DataError(
            f"'names' in {source} has {len(by_id)} classes but none with id {missing[0]}. "
            "Expected ids from 0 on without gaps."
        )
    return [by_id[index] for index in range(len(by_id))]


def _resolve(entry: str, roots: Sequence[Path]) -> list[Path] | None:
    """The image files of one entry, existing or not; None where the entry does not exist."""
    # Exports of Roboflow write '../train/images' for a folder that lies beside the YAML file.
    spellings = [entry, entry.removeprefix("../")]
    for spelling in dict.fromkeys(spellings):
        for root in roots:
            path = root / spelling
            if path.is_dir():
                return list(walk_images(path))
            if path.is_file():
                return [path] if is_image_name(path.name) else _listed(path, roots)
            if _GLOB & set(spelling) and not Path(spelling).is_absolute():
                return [file for file in sorted(root.glob(spelling)) if is_image_name(file.name)]
    return None


def _listed(list_file: Path, roots: Sequence[Path]) -> list[Path]:
    try:
        text = list_file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        shown = display_path(list_file)
        raise DataError(f"{shown} cannot be opened: {error.strerror or error}.") from error
    lines = [line.strip().replace("\\", "/") for line in text.splitlines()]
    return [_listed_image(line, list_file.parent, roots) for line in lines if line]


def _listed_image(line: str, folder: Path, roots: Sequence[Path]) -> Path:
    candidates = [folder / line, *(root / line for root in roots)]
    return next((path for path in candidates if path.is_file()), candidates[0])


def _once(paths: Sequence[Path]) -> SplitFiles:
    existing: dict[str, Path] = {}
    missing: set[str] = set()
    problems: list[DataProblem] = []
    for path in paths:
        key = os.path.abspath(path)  # noqa: PTH100 - resolves '..', keeps links
        if key in existing or key in missing:
            detail = "it is listed more than once"
            problems.append(DataProblem("duplicate_image", display_path(path), detail, "skipped"))
        elif path.is_file():
            existing[key] = path
        else:
            missing.add(key)
            detail = "it is listed but does not exist"
            problems.append(DataProblem("missing_image", display_path(path), detail, "skipped"))
    return SplitFiles(tuple(existing.values()), len(missing), tuple(problems))
