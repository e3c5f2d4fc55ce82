"""Small labelled data in the formats that trainings take."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 48


def _picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    Image.fromarray(random.integers(0, 255, (SIDE, SIDE, 3), np.uint8)).save(path)


def write_classes(folder: Path) -> Path:
    """A folder per class, without a split."""
    for k in range(20):
        _picture(folder / ("cat", "dog")[k % 2] / f"{k:02}.jpg", k)
    return folder


def write_masks(folder: Path) -> Path:
    """Images and masks of two classes and a void one, in two splits."""
    for split, count in (("train", 8), ("val", 4)):
        for k in range(count):
            _picture(folder / split / f"{k}.png", k)
            ids = np.zeros((SIDE, SIDE), np.uint8)
            ids[:, SIDE // 2 :], ids[:4] = 1, 2
            target = folder / f"{split}annot" / f"{k}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(ids).save(target)
    (folder / "classes.txt").write_text("road\nsky\nvoid\n")
    return folder


def write_boxes(folder: Path) -> Path:
    """COCO instances of two classes; the first image has none."""
    for split, count in (("train", 6), ("val", 3)):
        images, objects = [], []
        for k in range(count):
            _picture(folder / f"{split}2017" / f"{k}.jpg", k)
            images.append({"id": k, "file_name": f"{k}.jpg", "width": SIDE, "height": SIDE})
            if k:
                box = {"bbox": [4, 6, 20 + k, 24], "area": 24 * (20 + k), "iscrowd": 0}
                objects.append({"id": k, "image_id": k, "category_id": 1 + k % 2, **box})
        names = [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}]
        document = {"images": images, "annotations": objects, "categories": names}
        (folder / "annotations").mkdir(exist_ok=True)
        target = folder / "annotations" / f"instances_{split}2017.json"
        target.write_text(json.dumps(document))
    return folder


WRITERS = {"classification": write_classes, "segmentation": write_masks, "detection": write_boxes}
