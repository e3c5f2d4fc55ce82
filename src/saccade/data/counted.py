"""Which classes count: those that were asked for, else those whose tracks are labelled. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from saccade.data.assemble import dataset_digest
from saccade.data.contract import Dataset, DataSplits, LabelledImage
from saccade.errors import SpecError
from saccade.suggest import did_you_mean


def counted_classes(
    asked: Sequence[str], class_names: Sequence[str], splits: DataSplits | None
) -> tuple[int, ...]:
    """Ids of the classes that count, sorted; empty for all of the model's.

    Labels of tracks are made for some classes only, such as pedestrians, and say nothing about
    the others: what a detector of eighty classes finds beside them would count as wrong.

    Args:
        asked: names from the spec.
        class_names: of the model.
        splits: the labelled data.

    Raises:
        SpecError: the model has no class of a name that was asked for.
    """
    if asked:
        return tuple(sorted({_class_id(name, class_names) for name in asked}))
    datasets = [split for split in (splits.train, splits.val) if split] if splits else []
    tracked = [i for split in datasets for i in split.images if i.track_ids is not None]
    return tuple(sorted({int(class_id) for image in tracked for class_id in image.class_ids}))


def _class_id(name: str, class_names: Sequence[str]) -> int:
    known = [known.casefold() for known in class_names]
    if name.casefold() in known:
        return known.index(name.casefold())
    hint = did_you_mean(name.casefold(), known) or f"It has: {', '.join(class_names[:10])}, …"
    raise SpecError(f"'classes' names '{name}', but the model has no such class. {hint.strip()}")


def only_classes(splits: DataSplits, classes: Sequence[int]) -> DataSplits:
    """The data with labels of these classes only; as it is where none are named."""
    if not classes:
        return splits
    train, val = (_only(split, classes) for split in (splits.train, splits.val))
    return DataSplits(train, val, splits.problems)


def _only(dataset: Dataset | None, classes: Sequence[int]) -> Dataset | None:
    if dataset is None:
        return None
    images = tuple(_kept(image, classes) for image in dataset.images)
    return replace(dataset, images=images, digest=dataset_digest(images, dataset.class_names))


def _kept(image: LabelledImage, classes: Sequence[int]) -> LabelledImage:
    kept = np.isin(image.class_ids, classes)
    return replace(
        image,
        boxes=image.boxes[kept],
        class_ids=image.class_ids[kept],
        crowd=image.crowd[kept],
        track_ids=None if image.track_ids is None else image.track_ids[kept],
    )
