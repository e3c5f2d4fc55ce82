"""Which frames of an unlabelled video serve which purpose: none serves two.

Calibration, selection and report take every `STEP`-th frame, each with its own offset. Frames
that lie close resemble each other, so this keeps them apart by two frames, not independent;
labelled images are the better judge.
"""

from __future__ import annotations

from typing import Literal

Role = Literal["selection", "report", "calibration"]

STEP = 6
OFFSETS: dict[Role, int] = {"selection": 0, "report": 2, "calibration": 4}
