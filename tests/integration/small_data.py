"""Some of the real data, for tests that would take minutes with all of it."""

from __future__ import annotations

import shutil
from pathlib import Path

# Of each split.
IMAGES = 24


def some_pictures(imagenet: Path, folder: Path, count: int = 60) -> None:
    """The first pictures with their lines of ``labels.csv``."""
    folder.mkdir()
    (folder / "images").symlink_to(imagenet / "images")
    lines = (imagenet / "labels.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "labels.csv").write_text("".join(lines[: 1 + count]), encoding="utf-8")
    shutil.copy(imagenet / "classes.txt", folder)


def some_of(coco: Path, folder: Path, count: int = IMAGES) -> Path:
    """Some of the images with their labels, so that judging them takes seconds."""
    for split in ("calibration", "validation"):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for image in sorted((coco / "images" / split).iterdir())[:count]:
            shutil.copy(image, folder / "images" / split)
            shutil.copy(coco / "labels" / split / f"{image.stem}.txt", folder / "labels" / split)
    shutil.copy(coco / "data.yaml", folder)
    return folder / "data.yaml"
