"""COCO instances: one JSON file per split, with the images beside it or in a sibling folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from saccade.data.assemble import assemble, labelled_image, probe_all, unlabelled_image
from saccade.data.classes import ClassMap, match_classes
from saccade.data.coco_json import CocoFile, CocoImage, load_coco
from saccade.data.contract import DataProblem, Dataset, DataSplits, LabelledImage
from saccade.data.images import display_path
from saccade.errors import DataError

# Names under which splits are published, by role.
_SPLIT_NAMES = {"train": ("train",), "val": ("val", "valid", "validation", "test")}
_ROBOFLOW_FILE = "_annotations.coco.json"
_LOOKED_AT = 50

# Path, width and height of an image that can be used.
ProbedImage = tuple[Path, int, int]
# The image with its labels (None where they cannot be used), and what was wrong.
Labelled = tuple[LabelledImage | None, Sequence[DataProblem]]
Label = Callable[[ProbedImage, CocoImage, ClassMap, str], Labelled]


class CocoFormat:
    """A COCO instances file, or a folder with ``annotations/instances_*.json``."""

    task: ClassVar[str | None] = "detection"

    looks_for = "a COCO instances .json file, or a folder with annotations/instances_*.json"

    @staticmethod
    def recognizes(path: Path) -> bool:
        """Whether ``path`` is a JSON file or a folder with one where COCO has them."""
        if path.is_dir():
            return any(_annotation_files(path).values())
        return path.is_file() and path.suffix.lower() == ".json"

    @staticmethod
    def read(path: Path, class_names: Sequence[str] | None = None) -> DataSplits:
        """Read the splits; a single JSON file is ``val``.

        Category ids become class ids 0, 1, … in the order of the ids, or those of the classes
        of the same names where ``class_names`` is given.

        Raises:
            DataError: the JSON is not COCO instances, an annotation has a category it does not
                name, the images are nowhere, or too little is usable.
        """
        return read_coco(path, class_names, _label)


def read_coco(path: Path, class_names: Sequence[str] | None, label: Label) -> DataSplits:
    """Read the splits of a COCO data set, each image's labels by ``label``.

    Raises:
        DataError: as `CocoFormat.read` says.
    """
    if path.is_file():
        val, problems = _read_file(path, "val", class_names, label)
        return DataSplits(None, val, problems)
    files = _one_each(_annotation_files(path), path)
    if not files:
        raise DataError(
            f"'{display_path(path)}' holds no COCO annotations. Expected a JSON file, or "
            "a folder with annotations/instances_*.json."
        )
    if "val" not in files:
        train, problems = _read_file(files["train"], "train", class_names, label)
        return DataSplits(train, None, problems)
    val, problems = _read_file(files["val"], "val", class_names, label)
    if "train" not in files:
        return DataSplits(None, val, problems)
    try:
        train, more = _read_file(files["train"], "train", class_names, label)
    except _NoImagesError as error:
        # Many keep only the validation images, which is enough to judge on.
        source = display_path(files["train"])
        return DataSplits(
            None, val, (*problems, DataProblem("missing_split", source, str(error), "skipped"))
        )
    return DataSplits(train, val, tuple(dict.fromkeys((*problems, *more))))


class _NoImagesError(DataError):
    """None of the images that a COCO file names is in any of the usual places."""


def _annotation_files(folder: Path) -> dict[str, list[Path]]:
    """Annotation files by split, of the layouts of COCO and of Roboflow's COCO export."""
    found: dict[str, list[Path]] = {}
    for split, names in _SPLIT_NAMES.items():
        for parent in (folder / "annotations", folder):
            files = [
                file
                for name in names
                for file in sorted(parent.glob(f"instances_{name}*.json"))
                # 'val*' also matches 'valid' and 'validation'.
                if file not in found.get(split, ())
            ]
            found.setdefault(split, []).extend(dict.fromkeys(files))
        exported = [folder / name / _ROBOFLOW_FILE for name in names]
        found[split].extend(file for file in exported if file.is_file())
    return {split: files for split, files in found.items() if files}


def _one_each(files: dict[str, list[Path]], folder: Path) -> dict[str, Path]:
    for split, candidates in files.items():
        # 'test' stands in for 'val' only where there is no 'val'.
        proper = [file for file in candidates if "test" not in _split_folder(file)] or candidates
        if len(proper) > 1:
            listed = ", ".join(file.name for file in proper)
            raise DataError(
                f"{display_path(folder)} has several annotation files for '{split}': {listed}. "
                "Give the path of the one to use."
            )
        files[split] = proper
    return {split: candidates[0] for split, candidates in files.items()}


def _split_folder(annotations: Path) -> str:
    """The folder name that COCO gives the images of an annotation file, such as ``val2017``."""
    if annotations.name == _ROBOFLOW_FILE:
        return annotations.parent.name
    return annotations.stem.removeprefix("instances_")


def _read_file(
    path: Path, split: str, class_names: Sequence[str] | None, label: Label
) -> tuple[Dataset, tuple[DataProblem, ...]]:
    content = load_coco(path)
    classes = match_classes(content.class_names, class_names, display_path(path))
    root = _image_root(path, content)
    entries, problems = _existing(content, root)
    usable, broken = probe_all(list(entries))
    images: list[LabelledImage] = []
    problems = [*content.problems, *problems, *broken]
    for image in usable:
        labelled, found = label(image, entries[image[0]], classes, display_path(path))
        problems.extend(found)
        if labelled is not None:
            images.append(labelled)
    missing = sum(problem.kind == "missing_image" for problem in problems)
    dataset = assemble(
        split,
        images,
        classes.names,
        labelled=content.annotated,
        problems=problems,
        offered=len(entries) + missing,
    )
    return dataset, classes.problems


def _image_root(path: Path, content: CocoFile) -> Path:
    split = _split_folder(path)
    above = path.parent.parent
    candidates = [
        path.parent,
        path.parent / "images",
        path.parent / split,
        path.parent / "images" / split,
        above / split,
        above / "images" / split,
        above / "images",
        above,
    ]
    sample = content.images[:_LOOKED_AT]
    for root in candidates:
        if any((root / image.file_name).is_file() for image in sample):
            return root
    tried = ", ".join(display_path(root) for root in candidates)
    raise _NoImagesError(
        f"The images that {display_path(path)} names, such as {sample[0].file_name}, are in none "
        f"of these folders: {tried}. Put them into one of those."
    )


def _existing(content: CocoFile, root: Path) -> tuple[dict[Path, CocoImage], list[DataProblem]]:
    entries: dict[Path, CocoImage] = {}
    problems: list[DataProblem] = []
    seen: set[Path] = set()
    for image in content.images:
        path = root / image.file_name
        if path in seen:
            detail = "it is listed more than once"
            problems.append(DataProblem("duplicate_image", display_path(path), detail, "skipped"))
            continue
        seen.add(path)
        if path.is_file():
            entries[path] = image
        else:
            detail = "it is listed but does not exist"
            problems.append(DataProblem("missing_image", display_path(path), detail, "skipped"))
    return entries, problems


def _label(image: ProbedImage, entry: CocoImage, classes: ClassMap, source: str) -> Labelled:
    wrong = wrong_size(image, entry)
    if wrong is not None:
        return None, [wrong]
    if not len(entry.class_ids):
        return unlabelled_image(image), []
    where = f"{source} ({entry.file_name})"
    return labelled_image(image, entry.boxes, classes(entry.class_ids), entry.crowd, where)


def wrong_size(image: ProbedImage, entry: CocoImage) -> DataProblem | None:
    """What is wrong where the labels are for an image of another size."""
    path, width, height = image
    if entry.size is None or entry.size == (width, height):
        return None
    said = f"{entry.size[0]}×{entry.size[1]}"
    detail = f"its labels are for {said} pixels, the image has {width}×{height}"
    return DataProblem("wrong_size_image", display_path(path), detail, "skipped")
