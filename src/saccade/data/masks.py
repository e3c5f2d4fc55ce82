"""Segmented images: a PNG of class ids (palette or grey) beside every image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from saccade.data.assemble import assemble, probe_all, unlabelled_image
from saccade.data.contract import DataProblem, Dataset, DataSplits
from saccade.data.images import display_path, walk_images
from saccade.errors import DataError

_SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "test")}
# Where masks lie, by where images lie: SegNet's CamVid; ADE20K, VOC and the like; Cityscapes.
_LAYOUTS = (
    ("{split}", "{split}annot"),
    ("images/{split}", "masks/{split}"),
    ("images/{split}", "labels/{split}"),
    ("images/{split}", "annotations/{split}"),
    ("leftImg8bit/{split}", "gtFine/{split}"),
)
_PLAIN_LAYOUTS = (("images", "masks"), ("JPEGImages", "SegmentationClass"))
# Endings that turn an image's name into that of its mask.
_RENAMED = (("", ""), ("_leftImg8bit", "_gtFine_labelTrainIds"))
_VOID_NAMES = frozenset({"void", "unlabelled", "unlabeled", "ignore", "ignored"})
VOID = -1
# By convention what is not judged, whatever the number of classes.
_ALWAYS_VOID = 255


class MasksFormat:
    """A PNG of class ids (palette or grey) beside every image."""

    task: ClassVar[str | None] = "segmentation"
    settings: ClassVar[tuple[str, ...]] = ("void_ids",)
    looks_for = "folders of images and of PNG masks, such as train/ and trainannot/"

    @staticmethod
    def recognizes(path: Path) -> bool:
        """Whether a folder holds images and masks in one of the usual layouts."""
        return path.is_dir() and bool(_splits(path))

    @staticmethod
    def read(
        path: Path, class_names: Sequence[str] | None = None, void_ids: Sequence[int] = ()
    ) -> DataSplits:
        """Read every split that has masks.

        The classes' names are in ``classes.txt``, one per line; those named void or unlabelled,
        the id 255, and ``void_ids``, are not judged.

        Raises:
            DataError: too little is usable, or a mask has a class that does not exist.
        """
        named = path / "classes.txt"
        names: tuple[str, ...] = tuple(class_names or ())
        void: tuple[int, ...] = tuple(dict.fromkeys((_ALWAYS_VOID, *void_ids)))
        if named.is_file():
            listed = tuple(named.read_text(encoding="utf-8").split("\n"))
            listed = tuple(name.strip() for name in listed if name.strip())
            void += tuple(i for i, name in enumerate(listed) if name.lower() in _VOID_NAMES)
            names = listed
        found = _splits(path)
        if not found:
            raise DataError(
                f"{display_path(path)} holds no images with masks. Expected "
                f"{MasksFormat.looks_for}."
            )
        datasets = {
            split: _dataset(split, *found[split], names, void) if split in found else None
            for split in _SPLITS
        }
        return DataSplits(datasets["train"], datasets["val"])


def _splits(root: Path) -> dict[str, tuple[Path, Path]]:
    """Split → folders of its images and masks."""
    found: dict[str, tuple[Path, Path]] = {}
    for split, spellings in _SPLITS.items():
        for spelling in spellings:
            for images, masks in _LAYOUTS:
                pair = root / images.format(split=spelling), root / masks.format(split=spelling)
                if split not in found and pair[0].is_dir() and pair[1].is_dir():
                    found[split] = pair
    if found:
        return found
    plain = [(root / images, root / masks) for images, masks in _PLAIN_LAYOUTS]
    usable = [pair for pair in plain if pair[0].is_dir() and pair[1].is_dir()]
    return {"val": usable[0]} if usable else {}


def _dataset(
    split: str,
    images_at: Path,
    masks_at: Path,
    names: tuple[str, ...],
    void: tuple[int, ...],
) -> Dataset:
    paths = list(walk_images(images_at))
    usable, problems = probe_all(paths)
    images = []
    for found in usable:
        mask = _mask_of(found[0], images_at, masks_at)
        if mask is None:
            detail = f"there is no mask for it in {display_path(masks_at)}"
            shown = display_path(found[0])
            problems.append(DataProblem("missing_mask", shown, detail, "skipped"))
            continue
        wrong = _wrong(mask, found, names, void)
        if wrong is not None:
            problems.append(wrong)
            continue
        images.append(replace(unlabelled_image(found), mask=mask, void_ids=void))
    return assemble(split, images, names, labelled=True, problems=problems, offered=len(paths))


def _mask_of(image: Path, images_at: Path, masks_at: Path) -> Path | None:
    folder = masks_at / image.relative_to(images_at).parent
    candidates = (
        folder / f"{image.stem.removesuffix(old)}{new}.png"
        for old, new in _RENAMED
        if image.stem.endswith(old)
    )
    return next((path for path in candidates if path.is_file()), None)


def _wrong(
    mask: Path, image: tuple[Path, int, int], names: tuple[str, ...], void: tuple[int, ...]
) -> DataProblem | None:
    """What keeps a mask from being used.

    Raises:
        DataError: it has a class that the list of classes does not have.
    """
    shown = display_path(mask)
    try:
        ids = read_mask(mask, void)
    except DataError as error:
        return DataProblem("unreadable_mask", shown, str(error), "skipped")
    if ids.shape != (image[2], image[1]):
        detail = f"it is {ids.shape[1]}x{ids.shape[0]}, its image {image[1]}x{image[2]}"
        return DataProblem("mask_of_other_size", shown, detail, "skipped")
    if names and ids.max() >= len(names):
        raise DataError(
            f"{shown} has the class id {int(ids.max())}, but there are {len(names)} classes (0 to "
            f"{len(names) - 1}). Correct classes.txt, use 255 for what is not to be judged, or "
            "name such ids under labels: void_ids."
        )
    return None


def read_mask(path: Path, void_ids: Sequence[int] = (_ALWAYS_VOID,)) -> NDArray[np.int16]:
    """Class ids per pixel ``(H, W)`` int16, `VOID` where nothing is to be judged.

    Raises:
        DataError: the file is no PNG with one id per pixel.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P", "1"):
                raise DataError(
                    f"The mask {display_path(path)} has colours ({image.mode}). Expected a PNG "
                    "with a palette or in grey, whose values are class ids."
                )
            ids = np.asarray(image).astype(np.int16)
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"The mask {display_path(path)} cannot be read ({error}).") from error
    ids[np.isin(ids, list(void_ids))] = VOID
    return ids
