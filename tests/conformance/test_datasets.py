"""Every data format keeps the contract on a sample of its own, and on a damaged one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from saccade import plugins
from saccade.testing.data_conformance import CHECKS, Check

HW = (48, 64)


def images(folder: Path, count: int = 3) -> list[str]:
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    names = [f"bild-{i}-ü.png" for i in range(count)]
    for name in names:
        pixels = random.integers(0, 255, (*HW, 3), np.uint8)
        (folder / name).write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return names


def yolo(root: Path) -> Path:
    for split in ("train", "val"):
        (root / "labels" / split).mkdir(parents=True)
        for index, name in enumerate(images(root / "images" / split)):
            lines = ["1 0.5 0.5 0.25 0.5", "0 0.99 0.5 0.1 0.2", "0 x"][: index + 1]
            label = root / "labels" / split / Path(name).with_suffix(".txt").name
            label.write_text("\n".join(lines), encoding="utf-8")
    path = root / "data.yaml"
    path.write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n", encoding="utf-8")
    return path


def coco(root: Path) -> Path:
    names = images(root / "val2017")
    (root / "annotations").mkdir()
    boxes = [[8, 8, 16, 24], [60, 40, 20, 20], [5, 5, 0, 3]]
    document = {
        "images": [
            {"id": i, "file_name": name, "height": HW[0], "width": HW[1]}
            for i, name in enumerate(names)
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 7, "bbox": box, "iscrowd": i % 2, "area": 9}
            for i, box in enumerate(boxes)
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
    }
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(document))
    return root


def yolo_segments(root: Path) -> Path:
    path = yolo(root)
    lines = ["1 0.2 0.2 0.6 0.2 0.4 0.7", "0 0.5 0.5 1.2 0.5 0.9 0.9", "0 x"]
    for split in ("train", "val"):
        for index, label in enumerate(sorted((root / "labels" / split).iterdir())):
            label.write_text("\n".join(lines[: index + 1]), encoding="utf-8")
    return path


def coco_segments(root: Path) -> Path:
    path = coco(root) / "annotations" / "instances_val2017.json"
    document = json.loads(path.read_text())
    outlines = [
        [[8, 8, 24, 8, 24, 32]],
        {"size": list(HW), "counts": [100, 20, HW[0] * HW[1] - 120]},
        [[5, 5, 5, 8, 5, 8]],
    ]
    for row, outline in zip(document["annotations"], outlines, strict=True):
        row["segmentation"] = outline
    path.write_text(json.dumps(document))
    return root


def image_folder(root: Path) -> Path:
    images(root / "pictures" / "deep")
    (root / "pictures" / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    return root / "pictures"


def class_labels(root: Path) -> Path:
    for split in ("train", "val"):
        for class_name in ("cat", "dog"):
            images(root / split / class_name)
    (root / "val" / "cat" / "broken.png").write_bytes(b"no picture")
    return root


def masks(root: Path) -> Path:
    for split in ("train", "val"):
        (root / f"{split}annot").mkdir(parents=True)
        for name in images(root / split):
            ids = np.zeros(HW, np.uint8)
            ids[:10], ids[-10:] = 1, 2
            (root / f"{split}annot" / name).write_bytes(cv2.imencode(".png", ids)[1].tobytes())
    (root / "val" / "without-mask.png").write_bytes((root / "val" / name).read_bytes())
    (root / "classes.txt").write_text("cat\ndog\nvoid\n", encoding="utf-8")
    return root


def motchallenge(root: Path) -> Path:
    names = sorted(images(root / "walk" / "img1"))
    (root / "walk" / "gt").mkdir()
    rows = [f"{frame + 1},4,8,8,16,24,1,-1,-1,-1" for frame in range(len(names))]
    (root / "walk" / "gt" / "gt.txt").write_text("\n".join([*rows, "1,2,x"]))
    return root / "walk"


SAMPLES: dict[str, Callable[[Path], Path]] = {
    "yolo": yolo,
    "coco": coco,
    "yolo_segments": yolo_segments,
    "coco_segments": coco_segments,
    "class_labels": class_labels,
    "masks": masks,
    "motchallenge": motchallenge,
    "image_folder": image_folder,
}


def test_every_format_has_a_sample() -> None:
    assert set(SAMPLES) == set(plugins.TABLE["datasets"])


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", list(SAMPLES))
def test_the_contract_is_kept(name: str, check: Check, tmp_path: Path) -> None:
    check(plugins.load("datasets", name), SAMPLES[name](tmp_path))
