"""`Outline`: the pixels of one object, run-length encoded as COCO does.

A mask of the whole image costs a byte per pixel and object; its runs cost some hundred bytes.
The encoding and its conversions are pycocotools', so that what is judged is what it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Outline:
    """Pixels of one object.

    Attributes:
        height: of the image, pixels.
        width: of the image, pixels.
        counts: COCO's compressed run lengths, column by column.
    """

    height: int
    width: int
    counts: bytes

    @property
    def coco(self) -> dict[str, Any]:
        """As pycocotools takes it."""
        return {"size": [self.height, self.width], "counts": self.counts}

    @property
    def area(self) -> int:
        """Number of pixels."""
        from pycocotools import mask

        return int(mask.area(self.coco))

    def pixels(self) -> NDArray[np.bool_]:
        """The mask, ``(H, W)``."""
        from pycocotools import mask

        return np.asarray(mask.decode(self.coco), np.bool_)

    def on(self, height: int, width: int) -> Outline:
        """The same pixels of an image of another size, which begins in the same corner."""
        if (height, width) == (self.height, self.width):
            return self
        return from_crop(self.pixels()[:height, :width], (0, 0), (height, width))


def from_polygons(polygons: Sequence[NDArray[np.float64]], width: int, height: int) -> Outline:
    """The union of polygons, each ``(K, 2)`` xy in pixels; corners outside are moved inside."""
    from pycocotools import mask

    limit = np.array([width, height], np.float64)
    # A corner far outside would make pycocotools walk, and remember, all the way to it.
    inside = [np.clip(polygon, 0.0, limit).ravel().tolist() for polygon in polygons]
    return _outline(mask.merge(mask.frPyObjects(inside, height, width)))


def from_coco(segmentation: Any, width: int, height: int) -> Outline:
    """What a COCO annotation holds: polygons, or run lengths, compressed or not.

    Raises:
        ValueError: it is none of these, or belongs to an image of another size.
    """
    from pycocotools import mask

    if isinstance(segmentation, list) and segmentation:
        return from_polygons([_polygon(points) for points in segmentation], width, height)
    if not isinstance(segmentation, dict) or "counts" not in segmentation:
        raise ValueError("its segmentation is neither polygons nor run lengths")
    if segmentation.get("size") != [height, width]:
        raise ValueError(f"its run lengths are not for {height}x{width} pixels")
    counts = segmentation["counts"]
    if isinstance(counts, list):
        _check_runs(counts, height * width)
        return _outline(mask.frPyObjects(segmentation, height, width))
    if not isinstance(counts, str):
        raise ValueError("its run lengths are neither a list nor a string")
    _check_runs(_unpacked(counts), height * width)
    return Outline(height, width, counts.encode())


def from_crop(
    crop: NDArray[np.bool_], corner: tuple[int, int], frame_hw: tuple[int, int]
) -> Outline:
    """A mask that is False outside of a crop.

    Args:
        crop: ``(h, w)``, inside the frame.
        corner: top and left of the crop, pixels.
        frame_hw: of the frame.
    """
    from pycocotools import mask

    (top, left), (height, width) = corner, frame_hw
    strip = np.zeros((height, crop.shape[1]), np.bool_, order="F")
    strip[top : top + crop.shape[0]] = crop
    # Runs go down the columns, so those left and right of the strip only lengthen its ends.
    flat = strip.ravel(order="F")
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[:1].any():
        ends = np.concatenate([[0], ends])
    if len(ends) % 2:  # the strip ends in a run that is set
        ends = np.append(ends, flat.size)
    borders = np.concatenate([[0], left * height + ends, [height * width]])
    counts = np.diff(borders[:-1] if borders[-1] == borders[-2] else borders)
    return _outline(mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, 0, 0))


def _check_runs(counts: Sequence[int], pixels: int) -> None:
    """Refuse what pycocotools would read beyond the image's end."""
    if sum(counts) != pixels or min(counts, default=0) < 0:
        raise ValueError(f"its run lengths do not add up to {pixels} pixels")


def _unpacked(text: str) -> list[int]:
    """Run lengths of COCO's string: five bits a character, from the third on as differences."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


def _polygon(points: Any) -> NDArray[np.float64]:
    """Checked ``(K, 2)`` corners of one polygon."""
    try:
        corners = np.asarray(points, np.float64)
    except (TypeError, ValueError):
        raise ValueError("its segmentation has a polygon that is no list of numbers") from None
    if corners.ndim != 1 or corners.size < 6 or corners.size % 2:
        raise ValueError(f"its segmentation has a polygon of {corners.size} numbers")
    if not np.isfinite(corners).all():
        raise ValueError("its segmentation has a number that is not finite")
    return corners.reshape(-1, 2)


def _outline(runs: dict[str, Any]) -> Outline:
    height, width = runs["size"]
    return Outline(int(height), int(width), bytes(runs["counts"]))
