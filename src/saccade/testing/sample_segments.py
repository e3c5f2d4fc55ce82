"""The sample data's COCO polygons as a data set for instance segmentation, as people have it.

The sample keeps boxes in ``labels/`` with class ids 0 to 79, and polygons in ``segments/`` with
COCO's category ids. Here the polygons become the labels, and their ids those of the boxes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

# COCO names 80 categories by ids from 1 to 90; these are not used.
_UNUSED = frozenset((12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
CLASS_OF_CATEGORY = {
    category: index for index, category in enumerate(c for c in range(1, 91) if c not in _UNUSED)
}


def write_segments(sample: Path, target: Path) -> Path:
    """Write a YOLO data set with polygons and copies of the images; returns its ``data.yaml``.

    Images that have boxes but no polygons are left out, because their outlines are unknown.

    Args:
        sample: the folder ``coco`` of the sample data.
        target: a folder to write into; it may exist.
    """
    for split in ("calibration", "validation"):
        for image in sorted((sample / "images" / split).iterdir()):
            _copy(sample, image, target, split)
    described = (sample / "data.yaml").read_text(encoding="utf-8")
    (target / "data.yaml").write_text(described, encoding="utf-8")
    return target / "data.yaml"


def _copy(sample: Path, image: Path, target: Path, split: str) -> None:
    name = f"{image.stem}.txt"
    polygons, boxes = sample / "segments" / split / name, sample / "labels" / split / name
    if not polygons.is_file() and boxes.is_file() and boxes.read_text(encoding="utf-8").strip():
        return
    folder = target / "images" / split
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / image.name).exists():
        shutil.copyfile(image, folder / image.name)
    lines = polygons.read_text(encoding="utf-8").splitlines() if polygons.is_file() else []
    label = target / "labels" / split / name
    label.parent.mkdir(parents=True, exist_ok=True)
    label.write_text("".join(f"{_renumbered(line)}\n" for line in lines), encoding="utf-8")


def _renumbered(line: str) -> str:
    category, _, rest = line.partition(" ")
    return f"{CLASS_OF_CATEGORY[int(category)]} {rest}"
