"""MOTChallenge sequences: ``gt/gt.txt`` with ``img1/`` or a video beside it."""

from __future__ import annotations

from collections.abc import Sequence
from configparser import ConfigParser
from configparser import Error as ConfigError
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from saccade.data.assemble import assemble, probe_all, unlabelled_image
from saccade.data.contract import DataProblem, DataSplits, FrameOf, LabelledImage
from saccade.data.images import VIDEO_SUFFIXES, display_path, walk_images
from saccade.data.mot_text import PEDESTRIAN, MotRows, read_rows
from saccade.errors import DataError, first_line

_TRUTH = Path("gt") / "gt.txt"
_IMAGES = "img1"
_INFO = "seqinfo.ini"
# What the benchmarks call a pedestrian is one of these in a detector's list of classes.
_PERSON_NAMES = ("person", "pedestrian", "people", "human")
# Persons in vehicles and on posters, reflections: found or not, they do not count (MOT16, table 4).
_DISTRACTORS = (2, 7, 8, 12)


class MotChallengeFormat:
    """MOTChallenge sequences: gt/gt.txt with img1/ or a video beside it."""

    task: ClassVar[str | None] = "tracking"
    looks_for = "a folder with gt/gt.txt and img1/ or a video, or a folder of such folders"

    @staticmethod
    def recognizes(path: Path) -> bool:
        """Whether the folder is a sequence or holds sequences."""
        return bool(_sequences(path))

    @staticmethod
    def read(path: Path, class_names: Sequence[str] | None = None) -> DataSplits:
        """Read every sequence, frame by frame, as one split.

        Raises:
            DataError: there is no sequence, one has no frames or they cannot be read, or the
                model has no class of persons.
        """
        folders = _sequences(path)
        if not folders:
            raise DataError(
                f"{display_path(path)} holds no tracks. Expected {MotChallengeFormat.looks_for}."
            )
        names, person = _person_among(class_names or (), path)
        images: list[LabelledImage] = []
        problems: list[DataProblem] = []
        for folder in folders:
            found, wrong = _sequence(folder, person)
            images += found
            problems += wrong
        dataset = assemble(
            "val", images, names, labelled=True, problems=problems, offered=len(images)
        )
        return DataSplits(None, dataset)


def _sequences(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    if (path / _TRUTH).is_file():
        return [path]
    return sorted(child for child in path.iterdir() if (child / _TRUTH).is_file())


def _person_among(class_names: Sequence[str], path: Path) -> tuple[tuple[str, ...], int]:
    """The model's class names, and which of them is the benchmarks' pedestrian.

    Raises:
        DataError: none is.
    """
    if not class_names:
        return ("person",), 0
    known = [name.casefold() for name in class_names]
    for name in _PERSON_NAMES:
        if name in known:
            return tuple(class_names), known.index(name)
    raise DataError(
        f"{display_path(path)} has tracks of persons, but none of the model's {len(class_names)} "
        f"classes is called {' or '.join(_PERSON_NAMES)}. Use a model that finds persons, or name "
        "its classes with the override 'class_names'."
    )


@dataclass(frozen=True)
class _Frames:
    """Where the pixels of a sequence are: one file per frame, or the video for all of them."""

    source: Path
    files: tuple[Path, ...]
    width: int
    height: int


def _sequence(folder: Path, person: int) -> tuple[list[LabelledImage], list[DataProblem]]:
    rows = read_rows(folder / _TRUTH)
    frames = _frames(folder, _info(folder), int(rows.frames.max(initial=-1)) + 1)
    count = len(frames.files)
    problems = list(rows.problems)
    beyond = int((rows.frames >= count).sum())
    if beyond:
        detail = f"{beyond} boxes lie after the last of its {count} frames"
        problems.append(DataProblem("bad_annotation", display_path(folder), detail, "skipped"))
    return [_labelled(frames, rows, index, person) for index in range(count)], problems


def _labelled(frames: _Frames, rows: MotRows, index: int, person: int) -> LabelledImage:
    """One frame with the boxes that count, and those of distractors, marked as a crowd."""
    here = rows.frames == index
    distractor = np.isin(rows.class_ids[here], _DISTRACTORS)
    counts = (rows.class_ids[here] == PEDESTRIAN) & (rows.confidence[here] != 0)
    kept = counts | distractor
    plain = unlabelled_image((frames.files[index], frames.width, frames.height))
    return replace(
        plain,
        boxes=rows.boxes[here][kept].astype(np.float32),
        class_ids=np.full(int(kept.sum()), person, np.int64),
        crowd=distractor[kept],
        track_ids=rows.track_ids[here][kept],
        frame=FrameOf(frames.source, index),
    )


def _info(folder: Path) -> dict[str, str]:
    """What ``seqinfo.ini`` says; empty where there is none.

    Raises:
        DataError: it is damaged.
    """
    parser = ConfigParser(interpolation=None)
    try:
        parser.read(folder / _INFO, encoding="utf-8-sig")
    except (ConfigError, UnicodeDecodeError) as error:
        raise DataError(
            f"{display_path(folder / _INFO)} cannot be read: {first_line(error)}. "
            "Correct or remove it."
        ) from error
    return dict(parser["Sequence"]) if parser.has_section("Sequence") else {}


def _frames(folder: Path, info: dict[str, str], labelled: int) -> _Frames:
    images = folder / info.get("imdir", _IMAGES)
    if images.is_dir():
        return _frames_of_images(images)
    video = _video(folder, info)
    if video is None:
        raise DataError(
            f"{display_path(folder)} has tracks but no frames. Expected images in "
            f"{_IMAGES}/, or a video in the folder, or beside it and of its name."
        )
    said = info.get("seqlength", "")
    return _frames_of_video(video, int(said) if said.isdecimal() else labelled)


def _frames_of_images(images: Path) -> _Frames:
    files = tuple(sorted(walk_images(images)))
    usable, problems = probe_all(files)
    if problems or not usable:
        first = f" {problems[0].path}: {problems[0].detail}." if problems else ""
        raise DataError(
            f"{len(problems)} of the {len(files)} frames in {display_path(images)} cannot be "
            f"read, but a sequence needs every frame.{first} Copy the sequence again."
        )
    return _Frames(images, files, usable[0][1], usable[0][2])


def _frames_of_video(video: Path, expected: int) -> _Frames:
    from saccade.data.video import probe_video

    probe = probe_video(video)
    if probe.frames and probe.frames < expected:
        raise DataError(
            f"{display_path(video)} has {probe.frames} frames, but its labels are of {expected}. "
            "Give the video that was labelled, whole and not resampled."
        )
    return _Frames(video, (video,) * expected, probe.width, probe.height)


def _video(folder: Path, info: dict[str, str]) -> Path | None:
    """A video in the folder, else one beside it that is called like it."""
    inside = sorted(p for p in folder.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES)
    if inside:
        return inside[0]
    names = {folder.name.casefold(), info.get("name", folder.name).casefold()}
    beside = (p for p in sorted(folder.parent.iterdir()) if p.suffix.lower() in VIDEO_SUFFIXES)
    return next((p for p in beside if p.stem.casefold() in names), None)
