"""One YOLO label file: lines of a class id with a box or a polygon, in fractions of the image.

The format is the one of Ultralytics YOLO: ``class cx cy w h`` or ``class x1 y1 x2 y2 …``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import DataProblem
from saccade.errors import DataError

_BOX_NUMBERS = 5
_LEAST_POLYGON_NUMBERS = 7
_LARGEST = 1e9


@dataclass(frozen=True)
class YoloLabels:
    """The labels of one image.

    Attributes:
        boxes: ``(N, 4)`` float64 xyxy in fractions of the image, not clipped.
        class_ids: ``(N,)`` int64.
        problems: lines that were left out.
        polygons: per label ``(K, 2)`` float64 xy in fractions; None where it is a box.
    """

    boxes: NDArray[np.float64]
    class_ids: NDArray[np.int64]
    problems: tuple[DataProblem, ...] = ()
    polygons: tuple[NDArray[np.float64] | None, ...] = ()


def label_path(image: Path) -> Path:
    """Where the labels of ``image`` are.

    The last folder named ``images`` becomes ``labels``; where no such file exists, the label
    file is looked for beside the image. The returned file need not exist.
    """
    beside = image.with_suffix(".txt")
    parts = image.parent.parts
    if "images" not in parts:
        return beside
    at = len(parts) - 1 - parts[::-1].index("images")
    mirrored = Path(*parts[:at], "labels", *parts[at + 1 :]) / beside.name
    return beside if not mirrored.is_file() and beside.is_file() else mirrored


def parse_yolo_labels(
    text: str, source: str, classes: int = 0, *, keypoints: bool = False
) -> YoloLabels:
    """Parse the text of a label file. The box of a polygon is the one around it.

    Args:
        text: the file's content.
        source: the file's name, for messages.
        classes: number of classes; 0 where unknown, then every id from 0 on is taken.
        keypoints: whether what follows the box is keypoints (a pose data set).

    Raises:
        DataError: a class id that the class list does not have.
    """
    boxes: list[tuple[float, float, float, float]] = []
    class_ids: list[int] = []
    polygons: list[NDArray[np.float64] | None] = []
    problems: list[DataProblem] = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            values = _numbers(fields)
            class_id = _whole(values[0])
            box = _box(values, keypoints)
        except ValueError as error:
            detail = f"line {number}: {error}"
            problems.append(DataProblem("bad_label_line", source, detail, "skipped"))
            continue
        _check_class(class_id, classes, number, source)
        class_ids.append(class_id)
        boxes.append(box)
        outlined = len(values) > _BOX_NUMBERS and not keypoints
        polygons.append(np.array(values[1:]).reshape(-1, 2) if outlined else None)
    return YoloLabels(
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(class_ids, np.int64),
        tuple(problems),
        tuple(polygons),
    )


def to_pixels(boxes: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """``(N, 4)`` xyxy fractions to pixels of an image of ``width`` × ``height``."""
    return boxes * np.array([width, height, width, height], np.float64)


def _numbers(fields: list[str]) -> list[float]:
    values = [float(field) for field in fields]
    if len(values) < _BOX_NUMBERS:
        raise ValueError(f"has {len(values)} numbers, expected at least {_BOX_NUMBERS}")
    if not all(abs(value) <= _LARGEST for value in values):  # False for NaN too
        raise ValueError("has a number that is not finite or far too large")
    return values


def _whole(value: float) -> int:
    if not value.is_integer():
        raise ValueError(f"class id {value} is not a whole number")
    return int(value)


def _box(values: list[float], keypoints: bool) -> tuple[float, float, float, float]:
    if len(values) == _BOX_NUMBERS or keypoints:
        _, x, y, width, height = values[:_BOX_NUMBERS]
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if len(values) < _LEAST_POLYGON_NUMBERS or len(values) % 2 == 0:
        raise ValueError(
            f"has {len(values)} numbers, expected 5 for a box or an odd number from 7 for a polygon"
        )
    xs, ys = values[1::2], values[2::2]
    return min(xs), min(ys), max(xs), max(ys)


def _check_class(class_id: int, classes: int, line: int, source: str) -> None:
    if class_id >= 0 and (not classes or class_id < classes):
        return
    expected = f"0 to {classes - 1}" if classes else "0 or more"
    named = f"the data set has {classes} classes" if classes else "class ids count from 0"
    raise DataError(
        f"{source} has class id {class_id} on line {line}, but {named}. Expected ids are "
        f"{expected}: correct the label, or the class list it belongs to."
    )
