"""Classified images: a folder per class, or a CSV with a class per file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from saccade.data.assemble import assemble, probe_all, unlabelled_image
from saccade.data.class_csv import ClassTable, holds_csv, read_tables
from saccade.data.contract import DataProblem, Dataset, DataSplits
from saccade.data.images import display_path, is_image_name, walk_images
from saccade.errors import DataError

_SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "test")}


@dataclass(frozen=True)
class _Numbering:
    """The number that labels give the first class, and what is to be said about it."""

    first: int
    problems: tuple[DataProblem, ...] = ()


class ClassLabelsFormat:
    """A folder per class, or a CSV with a class per file."""

    task: ClassVar[str | None] = "classification"
    settings: ClassVar[tuple[str, ...]] = ("first_class",)
    looks_for = (
        "a folder per class, or a .csv with the columns 'file' and 'class_index' (or train.csv and "
        "val.csv of them)"
    )

    @staticmethod
    def recognizes(path: Path) -> bool:
        """Whether it is a CSV, holds one, or holds folders with images in them."""
        if path.is_file():
            return path.suffix.lower() == ".csv"
        return holds_csv(path) or bool(_class_folders(_split_root(path, "val") or path))

    @staticmethod
    def read(
        path: Path,
        class_names: Sequence[str] | None = None,
        first_class: int | None = None,
    ) -> DataSplits:
        """Read ``train`` and ``val``; one CSV or a plain folder per class is all ``val``.

        Args:
            path: the data.
            class_names: the model's classes.
            first_class: the number that the labels give the first class; by default 0, or 1 where
                they go from 1 to the number of the model's classes.

        Raises:
            DataError: a class is not one of the model's, or too little is usable.
        """
        tables = _tables(path)
        count = len(class_names) if class_names else None
        # Of all splits together: one of them may lack the first class or the last.
        numbering = _numbering(list(tables.values()), count, first_class)
        found = {
            split: _dataset(split, table, class_names, numbering) for split, table in tables.items()
        }
        return DataSplits(found.get("train"), found.get("val"))


def _tables(path: Path) -> dict[str, ClassTable]:
    """The labels of each split."""
    if path.is_file() or holds_csv(path):
        return read_tables(path)
    roots = {name: _split_root(path, name) for name in _SPLITS}
    found = {name: _read_folders(root) for name, root in roots.items() if root}
    return found or {"val": _read_folders(path)}


def _split_root(folder: Path, split: str) -> Path | None:
    return next((folder / name for name in _SPLITS[split] if (folder / name).is_dir()), None)


def _class_folders(root: Path) -> list[Path]:
    """Folders that hold images themselves; one alone is a folder of images, not a class."""
    if not root.is_dir():
        return []
    folders = [f for f in sorted(root.iterdir()) if f.is_dir() and not f.name.startswith(".")]
    found = [f for f in folders if any(is_image_name(p.name) for p in f.iterdir())]
    return found if len(found) > 1 else []


def _read_folders(root: Path) -> ClassTable:
    folders = _class_folders(root)
    labels = {path: folder.name for folder in folders for path in walk_images(folder)}
    names = dict(enumerate(folder.name for folder in folders))
    return ClassTable(display_path(root), labels, names)


def _dataset(
    split: str, table: ClassTable, class_names: Sequence[str] | None, numbering: _Numbering
) -> Dataset:
    if not table.labels:
        raise DataError(f"{table.source} names no image. Expected one file and class per line.")
    count = len(class_names) if class_names else None
    first = numbering.first
    ids = _class_ids(table, class_names, first)
    usable, broken = probe_all(path for path in table.labels if path.exists())
    missing = [
        DataProblem("missing_image", display_path(path), "it does not exist", "skipped")
        for path in table.labels
        if not path.exists()
    ]
    problems = [*numbering.problems, *table.problems, *broken, *missing, *table.lost]
    images = []
    for found in usable:
        text = table.labels[found[0]]
        label = ids[text]
        if label < 0 or (count is not None and label >= count):
            raise _out_of_range(found[0], text, first, count, table.source)
        images.append(replace(unlabelled_image(found), label=label))
    names = class_names or tuple(
        table.names.get(i + first, f"class_{i}") for i in range(max(ids.values()) + 1)
    )
    offered = len(table.labels) + len(table.lost)
    return assemble(split, images, names, labelled=True, problems=problems, offered=offered)


def _numbering(tables: Sequence[ClassTable], count: int | None, given: int | None) -> _Numbering:
    """From where the labels count; their range alone says where it is from 1."""
    texts = {text for table in tables for text in table.labels.values()}
    if given is not None or count is None or not all(text.isdecimal() for text in texts):
        return _Numbering(given or 0)
    numbers = [int(text) for text in texts]
    if not numbers or (min(numbers), max(numbers)) != (1, count):
        return _Numbering(0)
    detail = (
        f"its classes go from 1 to {count} and the model's from 0 to {count - 1}, so 1 is taken "
        "for the first (labels: first_class)"
    )
    problem = DataProblem("classes_count_from_one", tables[0].source, detail, "kept")
    return _Numbering(1, (problem,))


def _out_of_range(path: Path, text: str, first: int, count: int | None, source: str) -> DataError:
    last = "" if count is None else f" to {first + count - 1}"
    model = "the first class" if count is None else f"the model has {count} classes"
    return DataError(
        f"{display_path(path)} has class {text}, but {model} ({first}{last}). Check which list of "
        f"classes {source} is made for; labels: first_class sets from which number it counts."
    )


def _class_ids(
    table: ClassTable, class_names: Sequence[str] | None, first_class: int
) -> dict[str, int]:
    """Class id of each label text: a number, a name of the model's, or the folder's position.

    Raises:
        DataError: a text is neither.
    """
    texts = sorted(set(table.labels.values()))
    if all(text.isdecimal() for text in texts):
        return {text: int(text) - first_class for text in texts}
    by_name = {name: i for i, name in enumerate(class_names or ())}
    if all(text in by_name for text in texts):
        return {text: by_name[text] for text in texts}
    position = {name: i for i, name in table.names.items()}
    if all(text in position for text in texts) and len(texts) == len(class_names or texts):
        return position
    unknown = next(text for text in texts if text not in by_name)
    raise DataError(
        f"'{unknown}' in {table.source} is no class of the model. Name the classes as the model "
        "does, or by number; or give the names in the model's order with overrides: class_names."
    )
