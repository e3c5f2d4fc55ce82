"""Which frames of an unlabelled video serve which purpose: none serves two.

Calibration, selection and report take every `STEP`-th frame, each with its own offset. Frames
that lie close resemble each other, so this keeps them apart by two frames, not independent;
labelled images are the better judge.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from saccade.data.contract import Dataset, LabelledImage

Role = Literal["selection", "report", "calibration"]

STEP = 6
OFFSETS: dict[Role, int] = {"selection": 0, "report": 2, "calibration": 4}


def as_dataset(source: str, frames: int, frame_hw: tuple[int, int]) -> Dataset:
    """Frames of a source as an unlabelled dataset, for agreement."""
    empty = LabelledImage(
        path=Path(source),
        width=frame_hw[1],
        height=frame_hw[0],
        boxes=np.empty((0, 4), np.float32),
        class_ids=np.empty(0, np.int64),
        crowd=np.empty(0, np.bool_),
    )
    images = tuple(replace(empty, path=Path(f"{source}#{index}")) for index in range(frames))
    return Dataset(name="frames of the source", images=images, class_names=(), labelled=False)
