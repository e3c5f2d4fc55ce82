"""From probed images and their boxes to a `Dataset`, or a refusal where too much is wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saccade.data.boxes import clip_boxes
from saccade.data.classes import UNKNOWN_CLASS
from saccade.data.contract import DataProblem, Dataset, LabelledImage
from saccade.data.images import display_path, probe_image
from saccade.data.outlines import Outline
from saccade.errors import DataError

# Problems by which one label is lost.
_LOST_LABEL = frozenset(
    {"box_out_of_range", "zero_area_box", "bad_label_line", "bad_annotation"},
)
# Below this many lost labels, a majority of them may be chance.
_MIN_LOST_LABELS = 10


def probe_all(
    paths: Iterable[Path],
) -> tuple[list[tuple[Path, int, int]], list[DataProblem]]:
    """Probe images; returns the usable ones as (path, width, height), and the problems."""
    usable: list[tuple[Path, int, int]] = []
    problems: list[DataProblem] = []
    for path in paths:
        width, height, problem = probe_image(path)
        if problem is None:
            usable.append((path, width, height))
        else:
            problems.append(problem)
    return usable, problems


def labelled_image(
    image: tuple[Path, int, int],
    boxes: NDArray[np.float64],
    class_ids: NDArray[np.int64],
    crowd: NDArray[np.bool_],
    source: str,
    outlines: Sequence[Outline] | None = None,
) -> tuple[LabelledImage, list[DataProblem]]:
    """One image with its boxes, clipped, those of classes unknown to the model left out.

    Args:
        image: path, width and height in pixels.
        boxes: ``(N, 4)`` xyxy pixels.
        class_ids: ``(N,)``; -1 marks a class that the model does not know.
        crowd: ``(N,)``.
        source: the file the boxes are from.
        outlines: one per box, where there are any.
    """
    path, width, height = image
    known = class_ids != UNKNOWN_CLASS
    clipped, keep, problems = clip_boxes(boxes[known], width, height, source)
    labelled = LabelledImage(
        path, width, height, clipped, class_ids[known][keep], crowd[known][keep]
    )
    if outlines is not None:
        kept = np.flatnonzero(known)[keep]
        labelled = replace(labelled, outlines=tuple(outlines[index] for index in kept))
    return labelled, problems


def unlabelled_image(image: tuple[Path, int, int]) -> LabelledImage:
    """One image without boxes."""
    path, width, height = image
    return LabelledImage(
        path,
        width,
        height,
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.int64),
        np.zeros(0, np.bool_),
    )


def assemble(
    name: str,
    images: Sequence[LabelledImage],
    class_names: Sequence[str],
    *,
    labelled: bool,
    problems: Sequence[DataProblem],
    offered: int,
) -> Dataset:
    """Put one split together.

    Args:
        name: of the split.
        images: the usable ones.
        class_names: one per class id.
        labelled: whether the format holds labels for this split.
        problems: all that was found on the way.
        offered: images that there should be, usable or not.

    Raises:
        DataError: no image is usable, more than half are not, or most labels are impossible.
    """
    _refuse_lost_images(name, len(images), offered, problems)
    boxes = sum(len(image.boxes) for image in images)
    labels = sum(image.label_count for image in images)
    if labelled:
        _refuse_lost_labels(name, boxes, problems)
    found = list(problems)
    if labelled and not labels:
        # Accuracy against no label at all is undefined, so it must not be computed.
        detail = f"no image of '{name}' has a box"
        found.append(DataProblem("no_boxes", display_path(images[0].path.parent), detail, "kept"))
    ordered = tuple(sorted(images, key=lambda image: str(image.path)))
    return Dataset(
        name,
        ordered,
        tuple(class_names),
        labelled and labels > 0,
        tuple(found),
        dataset_digest(ordered, class_names),
    )


def dataset_digest(images: Iterable[LabelledImage], class_names: Sequence[str]) -> str:
    """First 16 hex digits of a SHA-256 over sorted file names, sizes and labels.

    The folder is left out, so data that moved is the same data.
    """
    entries = sorted(_entry(image) for image in images)
    hashed = hashlib.sha256(repr(tuple(class_names)).encode())
    for entry in entries:
        hashed.update(len(entry).to_bytes(8, "big") + entry)
    return hashed.hexdigest()[:16]


def _entry(image: LabelledImage) -> bytes:
    header: tuple[object, ...] = (
        display_path(image.path.name),
        image.path.stat().st_size,
        image.width,
        image.height,
    )
    labels = image.boxes.tobytes() + image.class_ids.tobytes() + image.crowd.tobytes()
    if image.frame is not None:
        header += (image.frame.index,)
    if image.track_ids is not None:
        labels += image.track_ids.tobytes()
    if image.label is not None:
        labels += f"label {image.label}".encode()
    if image.mask is not None:
        mask = (display_path(image.mask.name), image.mask.stat().st_size, image.void_ids)
        labels += repr(mask).encode()
    if image.outlines is not None:
        labels += b"".join(outline.counts + b"\0" for outline in image.outlines)
    return repr(header).encode() + labels


def _refuse_lost_images(
    name: str, usable: int, offered: int, problems: Sequence[DataProblem]
) -> None:
    lost = offered - usable
    if usable and lost * 2 <= offered:
        return
    first = next((p for p in problems if _loses_image(p)), None)
    example = f" First: {first.path}: {first.detail}." if first else ""
    if first is not None and "mask" in first.kind and not usable:
        raise DataError(f"None of the {offered} images of '{name}' has a mask to use.{example}")
    if not usable:
        raise DataError(
            f"None of the {offered} images of '{name}' can be used.{example} "
            "Point the data path at complete JPEG, PNG, BMP, WebP, TIFF or PPM files."
        )
    raise DataError(
        f"{lost} of the {offered} images of '{name}' cannot be used, more than half, so a result "
        f"on the rest would mean little.{example} Repair the data or leave those images out."
    )


def _loses_image(problem: DataProblem) -> bool:
    return problem.action == "skipped" and (
        "mask" in problem.kind or problem.kind.endswith("_image")
    )


def _refuse_lost_labels(name: str, boxes: int, problems: Sequence[DataProblem]) -> None:
    lost = [p for p in problems if p.action == "skipped" and p.kind in _LOST_LABEL]
    if len(lost) < _MIN_LOST_LABELS or len(lost) <= boxes:
        return
    raise DataError(
        f"{len(lost)} of the {len(lost) + boxes} labels of '{name}' are impossible, more than "
        f"half, so accuracy on the rest would mean little. First: {lost[0].path}: "
        f"{lost[0].detail}. Check that boxes are in the units of the format: 0 to 1 of the image "
        "for YOLO, pixels for COCO."
    )
