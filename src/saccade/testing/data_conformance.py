"""What every data format must do, as checks that need no test framework.

Each takes the format and the path of a sample in that format, and raises an ``AssertionError``
that says which rule of `saccade.data.contract` was broken.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from saccade.data.contract import DataFormat, Dataset, DataSplits, LabelledImage
from saccade.errors import DataError

Check = Callable[[type[DataFormat], Path], None]


def recognizes_its_own(data_format: type[DataFormat], sample: Path) -> None:
    """A sample is recognized; an empty folder and a path that is not there are not."""
    _expect(data_format.recognizes(sample), f"{sample.name} is not recognized")
    with tempfile.TemporaryDirectory() as empty:
        for other in (Path(empty), Path(empty) / "missing.json", Path(empty) / "missing"):
            _expect(not data_format.recognizes(other), f"{other.name or 'empty'} is recognized")


def reads_sound_splits(data_format: type[DataFormat], sample: Path) -> None:
    """Every split has readable images in order, with arrays of the types that are promised."""
    splits = data_format.read(sample)
    _expect(isinstance(splits, DataSplits), f"read() returned {splits!r}")
    found = [split for split in (splits.train, splits.val) if split is not None]
    _expect(bool(found), "there is neither a train nor a val split")
    for split in found:
        _expect(len(split) > 0, f"the split {split.name} is empty")
        _expect(bool(split.digest), f"the split {split.name} has no digest")
        paths = [image.path for image in split.images]
        _expect(paths == sorted(paths), f"the images of {split.name} are not sorted")
        places = {(image.path, image.frame) for image in split.images}
        _expect(len(places) == len(paths), f"{split.name} lists an image twice")
        for image in split.images:
            _sound(image, split)


def _sound(image: LabelledImage, split: Dataset) -> None:
    name, count = image.path.name, len(image.class_ids)
    _expect(image.path.is_file(), f"{name} is not there")
    _expect(image.width > 0 and image.height > 0, f"{name} is {image.width}x{image.height}")
    _expect(image.boxes.shape == (count, 4), f"{name}: boxes {image.boxes.shape} for {count}")
    _expect(image.crowd.shape == (count,), f"{name}: crowd {image.crowd.shape} for {count}")
    types = [array.dtype.name for array in (image.boxes, image.class_ids, image.crowd)]
    _expect(types == ["float32", "int64", "bool"], f"{name}: types {types}")
    limit = np.array([image.width, image.height] * 2)
    inside = bool(((image.boxes >= 0) & (image.boxes <= limit)).all())
    # Tracks also label what the border of the image hides, and are judged with it.
    tracks = image.track_ids is not None
    _expect(inside or tracks, f"{name}: a box lies outside of the image")
    if image.track_ids is not None:
        _expect(image.track_ids.shape == (count,), f"{name}: ids {image.track_ids.shape}")
        _expect(len(set(image.track_ids.tolist())) == count, f"{name}: an object twice")
        _expect(image.frame is not None, f"{name}: tracks, but no place in a sequence")
    ordered = bool((image.boxes[:, :2] < image.boxes[:, 2:]).all())
    _expect(ordered, f"{name}: a box without area")
    known = bool(((image.class_ids >= 0) & (image.class_ids < len(split.class_names))).all())
    _expect(known, f"{name}: class ids {set(image.class_ids.tolist())} without names")
    _expect(split.labelled or not count, f"{name} has boxes, but the split has no labels")
    if image.outlines is not None:
        sizes = [(outline.height, outline.width) for outline in image.outlines]
        right = sizes == [(image.height, image.width)] * count
        _expect(right, f"{name}: outlines of {sizes} for {count} boxes")


def reading_again_gives_the_same(data_format: type[DataFormat], sample: Path) -> None:
    """The digest, which is a cache key, depends on the data alone."""
    first, second = data_format.read(sample), data_format.read(sample)
    for one, other in ((first.train, second.train), (first.val, second.val)):
        _expect((one and one.digest) == (other and other.digest), "the digest changed")
        if one is not None and other is not None:
            _expect([i.path for i in one.images] == [i.path for i in other.images], "other images")


def refuses_what_is_not_there(data_format: type[DataFormat], sample: Path) -> None:
    """A path without data is a `DataError` that says something, not another exception."""
    with tempfile.TemporaryDirectory() as empty:
        try:
            data_format.read(Path(empty) / "missing")
        except DataError as error:
            _expect(bool(str(error)), "a DataError without a message")
        except Exception as error:
            raise AssertionError(f"{type(error).__name__} instead of DataError") from error
        else:
            raise AssertionError("reading a missing path raised nothing")


CHECKS: tuple[Check, ...] = (
    recognizes_its_own,
    reads_sound_splits,
    reading_again_gives_the_same,
    refuses_what_is_not_there,
)


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
