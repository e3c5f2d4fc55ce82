"""Small random scenes: labelled images and what an imperfect detector finds in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from saccade.data.contract import Dataset, LabelledImage
from saccade.tasks.detections import Detections

SIDE = 200.0


def scene(
    seed: int, images: int = 8, classes: int = 3, crowds: bool = True
) -> tuple[Dataset, Detections]:
    """Images with up to four objects, and jittered, missed, doubled and invented detections."""
    generator = np.random.default_rng(seed)
    rows = [_image(generator, index, classes, crowds) for index in range(images)]
    found = [_found(generator, image, classes) for image in rows]
    return labelled(rows), Detections.of(found)


def labelled(images: list[LabelledImage]) -> Dataset:
    """The images as a dataset."""
    return Dataset("scene", tuple(images), ("a", "b", "c"), labelled=True)


def _image(generator: np.random.Generator, index: int, classes: int, crowds: bool) -> LabelledImage:
    count = int(generator.integers(0 if index else 1, 5))
    crowd = generator.random(count) < (0.15 if crowds else 0.0)
    crowd[:1] = False
    return LabelledImage(
        path=Path(f"{index}.jpg"),
        width=int(SIDE),
        height=int(SIDE),
        boxes=_boxes(generator, count),
        class_ids=generator.integers(0, classes, count),
        crowd=crowd,
    )


def _boxes(generator: np.random.Generator, count: int) -> np.ndarray:
    corner = generator.uniform(0, SIDE * 0.6, (count, 2))
    side = generator.uniform(15, SIDE * 0.4, (count, 2))
    return np.concatenate([corner, corner + side], axis=1).astype(np.float32)


def _found(generator: np.random.Generator, image: LabelledImage, classes: int) -> tuple:
    copies = generator.integers(0, 3, len(image.boxes))
    boxes = np.repeat(image.boxes, copies, axis=0)
    boxes = boxes + generator.normal(0, 3, boxes.shape)
    invented = _boxes(generator, int(generator.integers(0, 4)))
    class_ids = np.concatenate(
        [np.repeat(image.class_ids, copies), generator.integers(0, classes, len(invented))]
    )
    return np.concatenate([boxes, invented]), generator.random(len(class_ids)), class_ids
