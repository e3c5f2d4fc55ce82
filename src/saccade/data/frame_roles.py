"""Which frames of an unlabelled video serve which purpose: none serves two.

Calibration, selection and report take every `STEP`-th frame, each with its own offset. Frames
that lie close resemble each other, so this keeps them apart by two frames, not independent;
labelled images are the better judge.

What depends on the order of frames, as tracks do, needs frames in a row: there each role gets a
run of its own (`runs`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from saccade.data.contract import Dataset, FrameOf, LabelledImage

Role = Literal["selection", "report", "calibration"]

STEP = 6
OFFSETS: dict[Role, int] = {"selection": 0, "report": 2, "calibration": 4}
# Longest runs, frames. A live source has no length, and gives as much.
RUN, CALIBRATION_RUN = 40 * STEP, 16 * STEP
_CALIBRATION_SHARE = 1 / 6


def as_dataset(
    source: str, frames: int, frame_hw: tuple[int, int], in_a_row: bool = False
) -> Dataset:
    """Frames of a source as an unlabelled dataset, for agreement.

    ``in_a_row`` says that they follow one another, as a tracker gets them.
    """
    empty = LabelledImage(
        path=Path(source),
        width=frame_hw[1],
        height=frame_hw[0],
        boxes=np.empty((0, 4), np.float32),
        class_ids=np.empty(0, np.int64),
        crowd=np.empty(0, np.bool_),
    )
    images = tuple(
        replace(
            empty,
            path=Path(f"{source}#{index}"),
            frame=FrameOf(Path(source), index) if in_a_row else None,
        )
        for index in range(frames)
    )
    return Dataset(name="frames of the source", images=images, class_names=(), labelled=False)


def runs(frames: int | None) -> dict[Role, range]:
    """A run of frames for each role, of a video of so many frames (None where unknown)."""
    known = frames if frames is not None else CALIBRATION_RUN + 2 * RUN
    first = min(CALIBRATION_RUN, int(known * _CALIBRATION_SHARE))
    length = min(RUN, (known - first) // 2)
    return {
        "calibration": range(first),
        "selection": range(first, first + length),
        "report": range(first + length, first + 2 * length),
    }
