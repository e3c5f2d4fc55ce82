"""`BoxMasks`: masks of objects, kept within their boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.data.outlines import Outline, from_crop


@dataclass(frozen=True, eq=False)
class BoxMasks(Sequence[NDArray[np.bool_]]):
    """Masks of N objects in one frame.

    A mask of the whole frame costs 2 MB per object at 1080p, of which all but the box is False.
    Kept are the boxes only; indexing gives whole masks one at a time, `dense` all of them.

    Attributes:
        frame_hw: of the frame, pixels.
        corners: ``(N, 2)`` int64, top and left of each crop, pixels.
        crops: per object ``(h, w)`` bool, inside the frame.
    """

    frame_hw: tuple[int, int]
    corners: NDArray[np.int64]
    crops: tuple[NDArray[np.bool_], ...]

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: Any) -> Any:
        """The mask ``(H, W)`` of one object; of a slice, `BoxMasks`."""
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        mask = np.zeros(self.frame_hw, np.bool_)
        mask[self.place(index)] = self.crops[index]
        return mask

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        return (self[index] for index in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """What ``np.asarray`` gives: `dense`.

        Raises:
            ValueError: it was asked for without a copy, which cannot be.
        """
        if copy is False:
            raise ValueError("masks are kept as crops, so an array of them is always a copy")
        return self.dense() if dtype is None else self.dense().astype(dtype)

    def take(self, indices: NDArray[np.int64]) -> BoxMasks:
        """Only the objects at ``indices``."""
        crops = tuple(self.crops[index] for index in indices)
        return BoxMasks(self.frame_hw, self.corners[indices], crops)

    def place(self, index: int) -> tuple[slice, slice]:
        """Rows and columns of the frame that the crop covers."""
        top, left = (int(value) for value in self.corners[index])
        height, width = self.crops[index].shape
        return slice(top, top + height), slice(left, left + width)

    def dense(self) -> NDArray[np.bool_]:
        """All masks, ``(N, H, W)``."""
        masks = np.zeros((len(self), *self.frame_hw), np.bool_)
        for index, crop in enumerate(self.crops):
            masks[index][self.place(index)] = crop
        return masks

    @property
    def areas(self) -> NDArray[np.int64]:
        """Pixels of each object, ``(N,)``."""
        return np.array([np.count_nonzero(crop) for crop in self.crops], np.int64)

    def outlines(self) -> tuple[Outline, ...]:
        """Run-length encoded, as they are judged and sent between processes."""
        return tuple(
            from_crop(crop, (int(top), int(left)), self.frame_hw)
            for crop, (top, left) in zip(self.crops, self.corners, strict=True)
        )

    @classmethod
    def empty(cls, frame_hw: tuple[int, int]) -> BoxMasks:
        """No objects."""
        return cls(frame_hw, np.zeros((0, 2), np.int64), ())
