"""The data formats of `saccade.data` as map-style data sets to train on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from saccade.data.contract import DataProblem, Dataset, LabelledImage
from saccade.data.images import display_path
from saccade.data.masks import read_mask
from saccade.data.open import open_labelled
from saccade.errors import DataError

TASKS = ("classification", "segmentation", "detection")
# Of data without a split of their own, every fifth image is for judging.
JUDGED = 5
# Problems that cost an image.
BROKEN = frozenset({"missing_image", "truncated_image", "unreadable_image"})


class LabelledImages:
    """One split. An item is what the task trains on, with paths where saccade decodes.

    * classification: ``(image, class)``
    * segmentation: ``(image, mask)``, both paths; the mask holds a class id per pixel
    * detection: ``(image, boxes, classes)`` with ``(N, 4)`` float32 xyxy pixels of the image and
      ``(N,)`` int64

    Files that are missing or broken are items too, which raise: training counts what it leaves out,
    and how much of that is allowed is the user's to say.

    Attributes:
        class_names: one per class.
        void_ids: ids in masks that are neither trained on nor judged.
        broken: what is wrong with images that have labels and cannot be read.
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        task: str,
        class_names: tuple[str, ...],
        void_ids: tuple[int, ...] = (),
        broken: Sequence[DataProblem] = (),
    ) -> None:
        self._images, self._item = tuple(images), _ITEMS[task]
        self.class_names, self.void_ids, self.broken = class_names, void_ids, tuple(broken)

    def __len__(self) -> int:
        return len(self._images) + len(self.broken)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        if index >= len(self._images):
            problem = self.broken[index - len(self._images)]
            raise DataError(f"'{problem.path}': {problem.detail}")
        return self._item(self._images[index])


def _class_item(image: LabelledImage) -> tuple[Any, ...]:
    return image.path, image.label


def _mask_item(image: LabelledImage) -> tuple[Any, ...]:
    return image.path, image.mask


def _box_item(image: LabelledImage) -> tuple[Any, ...]:
    return image.path, image.boxes[~image.crowd], image.class_ids[~image.crowd]


_EXPECTED = {
    "classification": "a folder of images for each class, or a CSV of file and class",
    "segmentation": "a PNG mask for each image",
    "detection": "a YOLO data.yaml or a COCO JSON",
}
_ITEMS = {"classification": _class_item, "segmentation": _mask_item, "detection": _box_item}


def open_split(data: str | Path, task: str, split: str) -> LabelledImages:
    """The ``"train"`` or ``"val"`` split of labelled data, in any format that saccade knows.

    Data without a training split are divided: every fifth image is for judging.

    Raises:
        DataError: the data cannot be read, or have no labels.
    """
    return _splits(str(data), task)[split]


@lru_cache(maxsize=8)
def _splits(data: str, task: str) -> dict[str, LabelledImages]:
    if task not in TASKS:
        raise DataError(f"There is no training for '{task}'. Expected one of {', '.join(TASKS)}.")
    found = open_labelled(data, None, task)
    both = [split for split in (found.train, found.val) if split is not None]
    if not both or not all(split.labelled for split in both):
        raise _without_labels(data, task)
    images = {"train": _images(found.train), "val": _images(found.val)}
    only = next((part for part in images.values() if part), ())
    if not images["train"] or not images["val"]:
        images["val"] = only[::JUDGED]
        images["train"] = tuple(image for k, image in enumerate(only) if k % JUDGED)
    names = _class_names(both, task)
    void = tuple(sorted({v for part in images.values() for image in part for v in image.void_ids}))
    broken = {"train": _broken(found.train), "val": _broken(found.val)}
    if len(both) == 1:
        broken = {"train": (*broken["train"], *broken["val"]), "val": ()}
    return {
        name: LabelledImages(part, task, names, void, broken[name]) for name, part in images.items()
    }


def _without_labels(data: str, task: str) -> DataError:
    """Says what labels were looked for, and what the data would be good for."""
    others = [other for other in TASKS if other != task and _are_labelled(data, other)]
    hint = f" They have labels for {' and '.join(others)}." if others else ""
    return DataError(
        f"The data in {display_path(Path(data))} have no labels to train {task} on. Expected "
        f"{_EXPECTED[task]}.{hint}"
    )


def _are_labelled(data: str, task: str) -> bool:
    try:
        found = open_labelled(data, None, task)
    except DataError:
        return False
    return any(split is not None and split.labelled for split in (found.train, found.val))


def _images(dataset: Dataset | None) -> tuple[LabelledImage, ...]:
    return dataset.images if dataset is not None else ()


def _broken(dataset: Dataset | None) -> tuple[DataProblem, ...]:
    problems = dataset.problems if dataset is not None else ()
    return tuple(p for p in problems if p.kind in BROKEN and p.action == "skipped")


def _class_names(datasets: Sequence[Dataset], task: str) -> tuple[str, ...]:
    """As the data name them, or by number where they do not."""
    named = next((d.class_names for d in datasets if d.class_names), ())
    if named:
        return tuple(named)
    highest = max(_highest_id(image, task) for d in datasets for image in d.images)
    return tuple(f"class_{index}" for index in range(highest + 1))


def _highest_id(image: LabelledImage, task: str) -> int:
    if task == "classification":
        return image.label or 0
    if task == "segmentation":
        assert image.mask is not None
        return int(read_mask(image.mask, image.void_ids).max())
    return int(image.class_ids.max(initial=0))
