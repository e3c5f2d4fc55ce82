"""CSVs of classified images: a file and its class in every row, a table for each split."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from saccade.data.contract import DataProblem
from saccade.data.images import display_path
from saccade.errors import DataError

# By split, where a folder holds both; the other, and either alone, is all there is to judge on.
_SPLITS = {"train": "train.csv", "val": "val.csv"}
_ALONE = ("labels.csv", *reversed(_SPLITS.values()))
_FILE_COLUMNS = ("file", "filename", "image", "path")
_CLASS_COLUMNS = ("class_index", "class_id", "label", "class", "index")
_NAME_COLUMNS = ("name", "class_name")


@dataclass(frozen=True)
class ClassTable:
    """Files and their classes, as a CSV or the folders say.

    Attributes:
        source: the CSV or the folder, for people.
        labels: text of the class, by file.
        names: of classes, by their number, as far as they are known.
        lost: rows that say too little.
        problems: what else there is to say about it.
    """

    source: str
    labels: dict[Path, str]
    names: dict[int, str]
    lost: tuple[DataProblem, ...] = ()
    problems: tuple[DataProblem, ...] = ()


def holds_csv(folder: Path) -> bool:
    """Whether there is a CSV of one of the known names."""
    return any((folder / name).is_file() for name in _ALONE)


def read_tables(path: Path) -> dict[str, ClassTable]:
    """The tables by split: of a CSV, or of a folder that `holds_csv`.

    ``train.csv`` and ``val.csv`` are the splits of their names. Else there is ``val`` only: the
    CSV itself, or the first of ``labels.csv``, ``val.csv`` and ``train.csv``.

    Raises:
        DataError: a table lacks a column.
    """
    found = {"val": path} if path.is_file() else _of_folder(path)
    tables = {split: _read(table) for split, table in found.items()}
    unread = () if path.is_file() else _unread(path, found)
    return {**tables, "val": replace(tables["val"], problems=unread)}


def _of_folder(folder: Path) -> dict[str, Path]:
    splits = {split: folder / name for split, name in _SPLITS.items()}
    if all(table.is_file() for table in splits.values()):
        return splits
    return {"val": next(folder / name for name in _ALONE if (folder / name).is_file())}


def _unread(folder: Path, read: Mapping[str, Path]) -> tuple[DataProblem, ...]:
    """The tables that other ones were taken instead of."""
    taken = " and ".join(table.name for table in read.values())
    others = (folder / name for name in _ALONE)
    return tuple(
        DataProblem("unread_table", display_path(table), f"{taken} was read instead", "skipped")
        for table in others
        if table.is_file() and table not in read.values()
    )


def _read(path: Path) -> ClassTable:
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = csv.DictReader(file, restval="")
        columns = rows.fieldnames or []
        file_column = next((c for c in _FILE_COLUMNS if c in columns), None)
        class_column = next((c for c in _CLASS_COLUMNS if c in columns), None)
        if file_column is None or class_column is None:
            raise DataError(
                f"{display_path(path)} has the columns {', '.join(columns) or 'none'}. Expected "
                f"one of {', '.join(_FILE_COLUMNS)} and one of {', '.join(_CLASS_COLUMNS)}."
            )
        name_column = next((c for c in _NAME_COLUMNS if c in columns), None)
        labels: dict[Path, str] = {}
        names: dict[int, str] = {}
        lost: list[DataProblem] = []
        for row in rows:
            name, text = row[file_column].strip(), row[class_column].strip()
            if not name or not text:
                lost.append(_lost(path, rows.line_num, "class" if name else "file"))
                continue
            labels[_located(path.parent, name)] = text
            if name_column and text.isdecimal():
                names[int(text)] = row[name_column]
    return ClassTable(display_path(path), labels, names, tuple(lost))


def _lost(path: Path, line: int, what: str) -> DataProblem:
    """A row without what it needs loses its image."""
    return DataProblem(
        "unlabelled_image", display_path(path), f"line {line} names no {what}", "skipped"
    )


def _located(folder: Path, name: str) -> Path:
    """The file as the CSV names it, beside the CSV or in ``images/``."""
    beside = folder / name
    inside = folder / "images" / name
    return inside if not beside.exists() and inside.exists() else beside
