"""What every data format yields. Formats live in one file each beside this one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from saccade.data.outlines import Outline


@dataclass(frozen=True)
class DataProblem:
    """One thing that is wrong with the data, and what was done about it.

    Attributes:
        kind: short fixed name, such as ``"truncated_image"``, ``"unreadable_image"``,
            ``"box_out_of_range"``, ``"bad_label_line"``, ``"missing_image"``,
            ``"empty_label_file"``, ``"video_ends_early"``.
        path: the file it was found in.
        detail: one clause for a person.
        action: ``"skipped"``, ``"clipped"``, ``"kept"``.
    """

    kind: str
    path: str
    detail: str
    action: str


@dataclass(frozen=True)
class FrameOf:
    """The place of an image in a sequence of frames.

    Attributes:
        source: the video, or the folder of images in the order of their names.
        index: from 0.
    """

    source: Path
    index: int


@dataclass(frozen=True)
class LabelledImage:
    """One image with its label: boxes, a class, or a mask.

    Attributes:
        path: the image file; the video, for one of its frames.
        width: pixels, after EXIF orientation is ignored (as OpenCV's IMREAD_COLOR_RGB |
            IMREAD_IGNORE_ORIENTATION reads it).
        height: pixels.
        boxes: ``(N, 4)`` float32 xyxy pixels of the original image.
        class_ids: ``(N,)`` int64.
        crowd: ``(N,)`` bool, COCO's iscrowd; False where the format has none.
        label: class of the whole image, None where the format has none.
        mask: PNG with a class id per pixel, None where the format has none.
        void_ids: ids in the mask that are not judged.
        outlines: the pixels of each box's object; None where the format has none.
        track_ids: ``(N,)`` int64, which object each box is of; None where the format has none.
        frame: its place, where it belongs to a sequence.
    """

    path: Path
    width: int
    height: int
    boxes: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    label: int | None = None
    mask: Path | None = None
    void_ids: tuple[int, ...] = ()
    outlines: tuple[Outline, ...] | None = None
    track_ids: NDArray[np.int64] | None = None
    frame: FrameOf | None = None

    @property
    def label_count(self) -> int:
        """How many labels the image has."""
        return len(self.boxes) + (self.label is not None) + (self.mask is not None)


@dataclass(frozen=True)
class Dataset:
    """One split. Without labels, ``labelled`` is False and the images have none.

    Attributes:
        name: split name, for messages.
        images: usable images, in sorted order of their paths.
        class_names: one per class, empty where unknown.
        labelled: whether there are labels to judge accuracy with.
        problems: everything that was wrong, counted and named in the result.
        digest: hash over file names, sizes and labels: the cache key of measurements on it.
    """

    name: str
    images: tuple[LabelledImage, ...]
    class_names: tuple[str, ...]
    labelled: bool
    problems: tuple[DataProblem, ...] = ()
    digest: str = ""

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class DataSplits:
    """What a data path offers: ``train`` may be calibrated on, ``val`` is for judging."""

    train: Dataset | None
    val: Dataset | None
    problems: tuple[DataProblem, ...] = field(default=())


class DataFormat(Protocol):
    """A data format: says whether a path is its own and reads it.

    Attributes:
        task: the task whose labels it holds; None where it holds no labels.

    A format that takes settings of the labels names them in ``settings``, a ``ClassVar`` tuple of
    names, and gets those that were given as keyword arguments of `read`. See
    `saccade.label_settings.LabelSettings`.
    """

    task: ClassVar[str | None]

    @staticmethod
    def recognizes(path: Path) -> bool:
        """Whether ``path`` looks like this format (cheap: looks at names, not at every file)."""
        ...

    @staticmethod
    def read(path: Path, class_names: Sequence[str] | None = None) -> DataSplits:
        """Read every split.

        Raises:
            DataError: nothing usable is there, or the labels contradict the classes.
        """
        ...
