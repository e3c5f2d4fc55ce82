"""Which images calibrate, which select among candidates, and which the report is made on.

A number is only as good as the data it comes from is new to what it judges, so the three
roles share no image, and content decides what is the same image, not the file name.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

from saccade.data.assemble import dataset_digest
from saccade.data.contract import DataProblem, Dataset, DataSplits, LabelledImage
from saccade.data.images import display_path
from saccade.data.sequences import clips_of
from saccade.errors import DataError

_SHOWN = 3
# Of every sequence, where calibration and where the report begins. The report gets most: blocks
# of frames are what its bound rests on, and there are few of them.
_CALIBRATION_FROM, _REPORT_FROM = 0.4, 0.5

_Place = tuple[Path, int]
_Key = tuple[int, str, int]


@dataclass(frozen=True)
class Roles:
    """The images by what they are used for; None where there are too few.

    Attributes:
        calibration: images to calibrate quantization on and to train on; what learns from labels,
            such as a policy or a fine-tuning, learns from these.
        selection: images to compare candidates on while searching.
        report: images to judge the chosen candidate on, seen by nothing before.
        problems: everything that was wrong with the data, each once. The roles' own lists hold
            what was wrong with the split they were taken from, so they repeat each other.
    """

    calibration: Dataset | None
    selection: Dataset | None
    report: Dataset | None
    problems: tuple[DataProblem, ...] = ()

    @classmethod
    def disjoint(
        cls,
        calibration: Dataset | None,
        selection: Dataset | None,
        report: Dataset | None,
        problems: tuple[DataProblem, ...] = (),
    ) -> Roles:
        """Roles that are known to share no image.

        Raises:
            DataError: two of them share one.
        """
        roles = cls(calibration, selection, report, problems)
        check_disjoint(roles)
        return roles


def split_roles(splits: DataSplits, seed: int = 0) -> Roles:
    """Give every image one role.

    Frames of sequences are dealt out in runs (`_roles_of_sequences`); for other images:

    With ``train`` and ``val``, a quarter of ``train`` calibrates, the rest is for selection, whose
    bounds need every label there is, and ``val`` is the report. A split without labels cannot be
    judged on, so it is calibrated on and the other is halved. With one split, a quarter
    calibrates, and the rest is halved. The order is that of a hash of file name and seed, so it
    depends neither on the machine nor on where the data lies.

    Raises:
        DataError: there is no image, or ``train`` and ``val`` share images.
    """
    train, val = splits.train, splits.val
    if train is not None and val is not None and train.digest == val.digest:
        train = None  # One folder named as both; there is only one split.
    problems = tuple(
        dict.fromkeys(
            (*splits.problems, *(p for d in (train, val) if d is not None for p in d.problems))
        )
    )
    if train is None or val is None:
        only = train if val is None else val
        if only is None:
            raise DataError("The data has no images. Give a path with images.")
        if clips_of(only.images):
            return _roles_of_sequences(only, problems)
        return _roles_of_one(only, seed, problems)
    if train.labelled == val.labelled:
        shares, duplicates = _deal(train, (1, 3), seed)
        parts = [*shares, val]
    else:
        judged, other = (val, train) if val.labelled else (train, val)
        halves, duplicates = _deal(judged, (1, 1), seed)
        parts = [other, *halves]
    return _named(parts, (*problems, *duplicates))


def check_disjoint(roles: Roles) -> None:
    """Refuse roles that share an image, by the content of the files.

    Only files of equal size are read.

    Raises:
        DataError: two roles share images; the message names them.
    """
    by_role = {
        "calibration": roles.calibration,
        "selection": roles.selection,
        "report": roles.report,
    }
    present = {name: data.images for name, data in by_role.items() if data is not None}
    keys = _content_keys([image for images in present.values() for image in images])
    for first, second in combinations(present, 2):
        known = {keys[place_of(image)]: image.path for image in present[first]}
        shared = [
            (known[keys[place_of(image)]], image.path)
            for image in present[second]
            if keys[place_of(image)] in known
        ]
        if shared:
            raise DataError(_overlap_message(first, second, shared))


def _overlap_message(first: str, second: str, shared: Sequence[tuple[Path, Path]]) -> str:
    pairs = "; ".join(f"{display_path(a)} and {display_path(b)}" for a, b in shared[:_SHOWN])
    more = f"; and {len(shared) - _SHOWN} more" if len(shared) > _SHOWN else ""
    return (
        f"The images for {first} and for {second} share {len(shared)} with the same content: "
        f"{pairs}{more}. What was calibrated or chosen on an image must not be judged on it: "
        "remove the duplicates from one of the splits."
    )


def _roles_of_sequences(dataset: Dataset, problems: tuple[DataProblem, ...]) -> Roles:
    """The first part of every sequence selects, the last is the report, what is between calibrates.

    A tracker needs frames in a row, so each role gets one run of each sequence. Frames on both
    sides of a border resemble each other; the calibration frames, a tenth, keep selection and
    report that far apart.
    """
    parts: list[list[LabelledImage]] = [[], [], []]
    start = 0
    for clip in clips_of(dataset.images):
        images = dataset.images[start : start + len(clip)]
        start += len(clip)
        first, second = (round(len(clip) * share) for share in (_CALIBRATION_FROM, _REPORT_FROM))
        runs = (images[first:second], images[:first], images[second:])
        for part, run in zip(parts, runs, strict=True):
            part.extend(run)
    return _named([_part(dataset, part) for part in parts], problems)


def _roles_of_one(dataset: Dataset, seed: int, problems: tuple[DataProblem, ...]) -> Roles:
    # With one or two images there is nothing to spare for calibration.
    weights = (2, 3, 3) if len(dataset) > 2 else (0, 1, 1)
    parts, duplicates = _deal(dataset, weights, seed)
    return _named(parts, (*problems, *duplicates))


def _named(parts: Sequence[Dataset | None], problems: tuple[DataProblem, ...]) -> Roles:
    calibration, selection, report = (
        None if part is None else dataclasses.replace(part, name=f"{part.name} ({role})")
        for part, role in zip(parts, ("calibration", "selection", "report"), strict=True)
    )
    return Roles.disjoint(calibration, selection, report, problems)


def _deal(
    dataset: Dataset, weights: Sequence[int], seed: int
) -> tuple[list[Dataset | None], tuple[DataProblem, ...]]:
    """Deal the images out in hash order, as many to each part as its weight says.

    Images of the same content are dealt once, as they could fall into different parts.
    """
    images, duplicates = _distinct(dataset.images)
    shuffled = sorted(images, key=lambda image: _rank(image.path.name, seed))
    total, bounds = sum(weights), [0]
    for count in range(1, len(weights) + 1):
        bounds.append(round(len(shuffled) * sum(weights[:count]) / total))
    parts = [_part(dataset, shuffled[start:stop]) for start, stop in pairwise(bounds)]
    return parts, duplicates


def _part(dataset: Dataset, images: Sequence[LabelledImage]) -> Dataset | None:
    if not images:
        return None
    ordered = tuple(sorted(images, key=lambda image: str(image.path)))
    return dataclasses.replace(
        dataset, images=ordered, digest=dataset_digest(ordered, dataset.class_names)
    )


def _rank(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{display_path(name)}".encode()).digest()


def _distinct(
    images: Sequence[LabelledImage],
) -> tuple[list[LabelledImage], tuple[DataProblem, ...]]:
    keys = _content_keys(images)
    first: dict[_Key, LabelledImage] = {}
    problems: list[DataProblem] = []
    for image in images:
        kept = first.setdefault(keys[place_of(image)], image)
        if kept is not image:
            detail = f"it has the same content as {display_path(kept.path)}"
            shown = display_path(image.path)
            problems.append(DataProblem("duplicate_image", shown, detail, "skipped"))
    return list(first.values()), tuple(problems)


def _content_keys(images: Iterable[LabelledImage]) -> dict[_Place, _Key]:
    """A key per image, equal for equal content: its size, and a hash where sizes collide.

    A frame of a video is its place in that video.
    """
    places = dict.fromkeys(place_of(image) for image in images)
    by_size: dict[int, list[Path]] = defaultdict(list)
    try:
        for path in dict.fromkeys(path for path, _ in places):
            by_size[path.stat().st_size].append(path)
        contents = {
            path: (size, _content_hash(path) if len(same) > 1 else "")
            for size, same in by_size.items()
            for path in same
        }
        return {(path, index): (*contents[path], index) for path, index in places}
    except OSError as error:
        raise DataError(
            f"An image can no longer be read: {error}. Do not change the data while it is used."
        ) from error


def place_of(image: LabelledImage) -> _Place:
    """The file of an image and, for a frame of a video, its index in there, else -1."""
    frame = image.frame
    return image.path, frame.index if frame is not None and frame.source == image.path else -1


def _content_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
