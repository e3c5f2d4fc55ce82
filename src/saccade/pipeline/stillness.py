"""Whether anything has moved since a frame was last looked at in full."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.frames import Frame
from saccade.pipeline.geometry import letterbox

# Longer side that frames are scaled to, and the side of a cell in it, pixels. A cell is 1/20 of
# the frame's width: noise averages out in it, and an object worth detecting fills much of one.
WIDTH, CELL = 160, 8
FULL_SCALE = 255.0


def brightness(frame: Frame) -> NDArray[np.float32]:
    """Mean brightness of a frame's cells ``(rows, columns)``, from 0 to 1."""
    box = letterbox(frame.hw, WIDTH, CELL, "rect", "center")
    canvas = np.zeros((*box.input_hw, 3), np.uint8)
    frame.scale(box, "rgb", canvas)
    rows, columns = box.input_hw[0] // CELL, box.input_hw[1] // CELL
    pixels = canvas.reshape(rows, CELL, columns, CELL, 3)
    return np.asarray(pixels.mean(axis=(1, 3, 4)) / FULL_SCALE, np.float32)


def change_between(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The largest change of any cell, from 0 to 1; 1 where the frames are of different shape."""
    return float(np.abs(first - second).max()) if first.shape == second.shape else 1.0


class LastFullLook:
    """Remembers how the frame looked that was last seen at full size. One per stream.

    What it compares with is that frame, not the one before the current: slow changes add up and
    are noticed.
    """

    def __init__(self, still_up_to: float) -> None:
        """Take the largest change (0 to 1) that counts as none; at 0 everything counts."""
        self._limit = still_up_to
        self._seen: NDArray[np.float32] | None = None

    def still_holds(self, frame: Frame) -> bool:
        """Whether nothing moved since; if something did, this frame is the next to compare with.

        So whoever is told no has to look at the frame in full.
        """
        if self._limit <= 0:
            return False
        cells = brightness(frame)
        if self._seen is not None and change_between(self._seen, cells) <= self._limit:
            return True
        self._seen = cells
        return False
