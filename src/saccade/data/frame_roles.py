"""Which frames of an unlabelled video serve which purpose: none serves two.

Calibration, selection and report take every `STEP`-th frame, each with its own offset. Frames
that lie close resemble each other, so this keeps them apart by two frames, not independent;
labelled images are the better judge.

What depends on the order of frames, as tracks do, needs frames in a row: there each role gets a
run of its own (`runs`).
"""

from __future__ import annotations

from typing import Literal

Role = Literal["selection", "report", "calibration"]

STEP = 6
OFFSETS: dict[Role, int] = {"selection": 0, "report": 2, "calibration": 4}
# Longest runs, frames. A live source has no length, and gives as much.
RUN, CALIBRATION_RUN = 40 * STEP, 16 * STEP
_CALIBRATION_SHARE = 1 / 6


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
