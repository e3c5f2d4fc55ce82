"""The content of one COCO instances file, checked, without looking at any image.

Format: https://cocodataset.org/#format-data, object detection.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import DataProblem
from saccade.data.images import display_path
from saccade.errors import DataError

_LARGEST = 1e9


@dataclass(frozen=True)
class CocoImage:
    """One image as the file describes it.

    Attributes:
        file_name: relative to the folder of the images.
        size: width and height that the labels are for, pixels; None where not given.
        boxes: ``(N, 4)`` float64 xyxy pixels, not clipped.
        class_ids: ``(N,)`` int64, contiguous, in the order of the category ids.
        crowd: ``(N,)`` bool, iscrowd.
        segmentations: per annotation as the file has it, unchecked; None where it has none.
    """

    file_name: str
    size: tuple[int, int] | None
    boxes: NDArray[np.float64]
    class_ids: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    segmentations: tuple[Any, ...] = ()


@dataclass(frozen=True)
class CocoFile:
    """What the file says.

    Attributes:
        images: in the file's order.
        class_names: category names in the order of the category ids.
        annotated: whether the file has a list of annotations.
        problems: entries that were left out.
    """

    images: tuple[CocoImage, ...]
    class_names: tuple[str, ...]
    annotated: bool
    problems: tuple[DataProblem, ...]


# One annotation: x, y, x, y, class id, crowd, segmentation.
_Row = tuple[float, float, float, float, int, bool, Any]


def load_coco(path: Path) -> CocoFile:
    """Read and check a COCO instances file.

    Raises:
        DataError: it is not JSON, not COCO instances, names no image, or an annotation has a
            category that the file does not name.
    """
    source = display_path(path)
    document = _load_json(path, source)
    listed = [entry for entry in document["images"] if _is_image(entry)]
    problems = [
        DataProblem("bad_image_entry", source, f"images[{k}] has no id or file_name", "skipped")
        for k, entry in enumerate(document["images"])
        if not _is_image(entry)
    ]
    if not listed:
        raise DataError(f"{source} lists no image. Expected 'images' with id and file_name each.")
    annotations = document.get("annotations")
    category_ids, names = _categories(document.get("categories"), source)
    rows, bad = _rows(annotations or [], {entry["id"] for entry in listed}, category_ids, source)
    images = tuple(_image(entry, rows.get(entry["id"], [])) for entry in listed)
    return CocoFile(images, names, annotations is not None, (*problems, *bad))


def _load_json(path: Path, source: str) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{source} cannot be opened: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} is not valid JSON: {error}. Export it again.") from error
    lists = ("images", "annotations", "categories")
    if not isinstance(document, dict) or "images" not in document:
        raise DataError(
            f"{source} is not a COCO instances file: expected an object with 'images', "
            "'annotations' and 'categories'."
        )
    for key in lists:
        if not isinstance(document.get(key, []), list):
            raise DataError(f"'{key}' in {source} is not a list, so it is not a COCO file.")
    return document


def _is_image(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("id"), int | str)
        and isinstance(entry.get("file_name"), str)
        and bool(entry["file_name"])
    )


def _categories(entries: Any, source: str) -> tuple[dict[int, int], tuple[str, ...]]:
    """Category id → class id, and the names in that order."""
    try:
        names = {int(entry["id"]): str(entry["name"]) for entry in entries or []}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"'categories' in {source} has an entry without a whole-number id and a name."
        ) from error
    if len(names) != len(entries or []):
        raise DataError(f"'categories' in {source} uses one id for several categories.")
    ordered = sorted(names)
    return {c: k for k, c in enumerate(ordered)}, tuple(names[c] for c in ordered)


def _rows(
    annotations: Sequence[Any], image_ids: set[Any], category_ids: dict[int, int], source: str
) -> tuple[dict[Any, list[_Row]], list[DataProblem]]:
    rows: dict[Any, list[_Row]] = {}
    problems: list[DataProblem] = []
    for index, annotation in enumerate(annotations):
        try:
            box = _box(annotation)
            image_id = annotation["image_id"]
            known = image_id in image_ids
            crowd = bool(annotation.get("iscrowd", 0))
        except (KeyError, TypeError, ValueError) as error:
            detail = f"annotations[{index}]: {_reason(error)}"
            problems.append(DataProblem("bad_annotation", source, detail, "skipped"))
            continue
        if not known:
            detail = f"annotations[{index}] is for image {image_id}, which is not listed"
            problems.append(DataProblem("bad_annotation", source, detail, "skipped"))
            continue
        class_id = _class_id(annotation, category_ids, index, source)
        rows.setdefault(image_id, []).append(
            (*box, class_id, crowd, annotation.get("segmentation"))
        )
    return rows, problems


def _box(annotation: dict[str, Any]) -> tuple[float, float, float, float]:
    x, y, width, height = (float(value) for value in annotation["bbox"])
    if not all(math.isfinite(v) and abs(v) <= _LARGEST for v in (x, y, width, height)):
        raise ValueError("bbox has a number that is not finite or far too large")
    return x, y, x + width, y + height


def _class_id(
    annotation: dict[str, Any], category_ids: dict[int, int], index: int, source: str
) -> int:
    category = annotation.get("category_id")
    if isinstance(category, int) and category in category_ids:
        return category_ids[category]
    ids = f"{min(category_ids)} to {max(category_ids)}" if category_ids else "none"
    raise DataError(
        f"{source} has category_id {category} in annotations[{index}], but it names "
        f"{len(category_ids)} classes (ids: {ids}). Correct the annotation or add the category."
    )


def _reason(error: Exception) -> str:
    return f"has no {error}" if isinstance(error, KeyError) else str(error)


def _image(entry: dict[str, Any], rows: Sequence[_Row]) -> CocoImage:
    width, height = entry.get("width"), entry.get("height")
    known = isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0
    return CocoImage(
        entry["file_name"],
        (width, height) if known else None,  # type: ignore[arg-type]
        np.array([row[:4] for row in rows], np.float64).reshape(-1, 4),
        np.array([row[4] for row in rows], np.int64),
        np.array([row[5] for row in rows], np.bool_),
        tuple(row[6] for row in rows),
    )
