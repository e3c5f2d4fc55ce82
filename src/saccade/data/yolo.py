"""YOLO data sets: ``data.yaml`` with folders ``images/`` and ``labels/`` side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from saccade.data.assemble import assemble, labelled_image, probe_all, unlabelled_image
from saccade.data.classes import ClassMap, match_classes
from saccade.data.contract import DataProblem, Dataset, DataSplits, LabelledImage
from saccade.data.images import display_path
from saccade.data.yolo_labels import YoloLabels, label_path, parse_yolo_labels, to_pixels
from saccade.data.yolo_yaml import YoloYaml, find_yaml, load_yaml, split_files, tried_paths
from saccade.errors import DataError

# Path, width and height of an image that can be used.
ProbedImage = tuple[Path, int, int]
# The image with its labels (None where they exist but cannot be read), and what was wrong.
Labelled = tuple[LabelledImage | None, Sequence[DataProblem]]
Label = Callable[[ProbedImage, YoloYaml, ClassMap], Labelled]


class YoloFormat:
    """YOLO boxes or polygons, found by a ``data.yaml`` or by the folder layout alone."""

    task: ClassVar[str | None] = "detection"

    looks_for = "a YOLO data.yaml, or a folder with images/ and labels/"

    @staticmethod
    def recognizes(path: Path) -> bool:
        """Whether ``path`` is a YAML file, or a folder with one or with the usual layout."""
        if path.is_dir():
            return find_yaml(path) is not None or _has_layout(path)
        return path.is_file() and find_yaml(path) is not None

    @staticmethod
    def read(path: Path, class_names: Sequence[str] | None = None) -> DataSplits:
        """Read ``train`` and ``val`` (or ``test``, where there is no ``val``).

        Raises:
            DataError: the YAML contradicts itself, a label has a class id it does not name, or
                too little is usable.
        """
        return read_yolo(path, class_names, _label)


def read_yolo(path: Path, class_names: Sequence[str] | None, label: Label) -> DataSplits:
    """Read the splits of a YOLO data set, each image's labels by ``label``.

    Raises:
        DataError: the YAML contradicts itself, a label has a class id it does not name, or too
            little is usable.
    """
    found = find_yaml(path)
    config = load_yaml(found) if found else _config_of_layout(path)
    classes = match_classes(config.class_names, class_names, config.source)
    train = _read_split(config, "train", classes, label)
    val = _read_split(config, "val", classes, label)
    if train is None and val is None:
        tried = ", ".join(tried_paths(config, name) for name in config.entries)
        raise DataError(
            f"The images that {config.source} names do not exist. Looked for: {tried}. "
            "Correct 'path', 'train' and 'val', relative to the YAML file."
        )
    absent = [
        DataProblem("missing_split", config.source, f"'{name}' does not exist", "skipped")
        for name, dataset in (("train", train), ("val", val))
        if dataset is None and config.entries[name]
    ]
    return DataSplits(train, val, (*classes.problems, *absent))


def _has_layout(folder: Path) -> bool:
    return (folder / "images").is_dir() and (folder / "labels").is_dir()


def _config_of_layout(folder: Path) -> YoloYaml:
    entries: dict[str, tuple[str, ...]] = {"train": (), "val": ()}
    for split in entries:
        if (folder / "images" / split).is_dir():
            entries[split] = (f"images/{split}",)
    if not any(entries.values()):
        entries["val"] = ("images",)
    return YoloYaml(display_path(folder), (folder,), entries, ())


def _read_split(config: YoloYaml, split: str, classes: ClassMap, label: Label) -> Dataset | None:
    files = split_files(config, split)
    if files is None:
        return None
    usable, broken = probe_all(files.paths)
    problems = [*files.problems, *broken]
    images: list[LabelledImage] = []
    unlabelled: list[DataProblem] = []
    for image in usable:
        labelled, found = label(image, config, classes)
        absent = [problem for problem in found if problem.kind == "missing_label_file"]
        unlabelled.extend(absent)
        if not absent:
            problems.extend(found)
        if labelled is not None:
            images.append(labelled)
    has_labels = len(unlabelled) < len(images)
    return assemble(
        split,
        images,
        classes.names,
        labelled=has_labels,
        # Where no image has a label file, the split has no labels, which is not a fault.
        problems=[*problems, *(unlabelled if has_labels else ())],
        offered=len(files.paths) + files.missing,
    )


def _label(image: ProbedImage, config: YoloYaml, classes: ClassMap) -> Labelled:
    path, width, height = image
    source = label_path(path)
    labels = read_labels(image, source, config)
    if not isinstance(labels, YoloLabels):
        return labels
    boxes = to_pixels(labels.boxes, width, height)
    ids = classes(labels.class_ids)
    crowd = np.zeros(len(ids), np.bool_)
    labelled, bad = labelled_image(image, boxes, ids, crowd, display_path(source))
    return labelled, [*labels.problems, *bad]


def read_labels(image: ProbedImage, source: Path, config: YoloYaml) -> YoloLabels | Labelled:
    """The labels in a file, or at once the image where there is nothing to parse."""
    path, shown = image[0], display_path(source)
    try:
        text = source.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        detail = f"there is no label file {shown}"
        missing = DataProblem("missing_label_file", display_path(path), detail, "kept")
        return unlabelled_image(image), [missing]
    except OSError as error:
        # Its boxes are unknown, not absent, so the image cannot be judged.
        detail = f"its label file {shown} cannot be opened: {error.strerror or error}"
        return None, [DataProblem("unreadable_image", display_path(path), detail, "skipped")]
    if not text.strip():
        empty = DataProblem("empty_label_file", shown, "the image has no box", "kept")
        return unlabelled_image(image), [empty]
    return parse_yolo_labels(text, shown, len(config.class_names), keypoints=config.keypoints)
