"""Lines of MOTChallenge text files: one box of one track in one frame each.

``frame, id, left, top, width, height, confidence, …``, frames from 1. In ground truth the seventh
column says whether the box counts. MOT16 and later go on with class and visibility; MOT15 goes on
with a place in the world (three columns), and results with three times -1. Source of the format:
Milan et al., "MOT16: A Benchmark for Multi-Object Tracking" (2016), section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import DataProblem
from saccade.data.images import display_path
from saccade.errors import DataError

_LEAST_COLUMNS = 6
# Of MOT16 and later; the ten columns of MOT15 hold a place in the world instead.
_COLUMNS_WITH_CLASS = 9
PEDESTRIAN = 1


@dataclass(frozen=True, eq=False)
class MotRows:
    """The boxes of a file, in its order.

    Attributes:
        frames: ``(N,)`` int64, from 0.
        track_ids: ``(N,)`` int64.
        boxes: ``(N, 4)`` float64 xyxy pixels, not clipped: the benchmarks label what is hidden too.
        confidence: ``(N,)`` float64; 1 where the file has none.
        class_ids: ``(N,)`` int64 of the benchmark's classes; `PEDESTRIAN` where it has none.
        problems: lines that were left out.
    """

    frames: NDArray[np.int64]
    track_ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    confidence: NDArray[np.float64]
    class_ids: NDArray[np.int64]
    problems: tuple[DataProblem, ...] = ()


def read_rows(path: Path) -> MotRows:
    """Read a file of tracks.

    Raises:
        DataError: it cannot be opened, or an object has two boxes in one frame.
    """
    shown = display_path(path)
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{shown} cannot be opened: {error.strerror or error}.") from error
    rows: list[tuple[float, ...]] = []
    problems: list[DataProblem] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            rows.append(_row(line))
        except ValueError as error:
            detail = f"line {number}: {error}"
            problems.append(DataProblem("bad_label_line", shown, detail, "skipped"))
    table = np.array(rows, np.float64).reshape(-1, 8)
    found = MotRows(
        frames=table[:, 0].astype(np.int64) - 1,
        track_ids=table[:, 1].astype(np.int64),
        boxes=np.concatenate([table[:, 2:4], table[:, 2:4] + table[:, 4:6]], axis=1),
        confidence=table[:, 6],
        class_ids=table[:, 7].astype(np.int64),
        problems=tuple(problems),
    )
    _check_unique(found, shown)
    return found


def _row(line: str) -> tuple[float, ...]:
    fields = line.replace(",", " ").split()
    values = [float(field) for field in fields]
    if len(values) < _LEAST_COLUMNS:
        raise ValueError(f"has {len(values)} columns, expected at least {_LEAST_COLUMNS}")
    if not np.isfinite(values).all():
        raise ValueError("has a number that is not finite")
    frame, track_id, left, top, width, height = values[:_LEAST_COLUMNS]
    if not frame.is_integer() or frame < 1 or not track_id.is_integer():
        raise ValueError("expected a whole frame number from 1 and a whole track id")
    if width <= 0 or height <= 0:
        raise ValueError("has a box without area")
    confidence = values[6] if len(values) > 6 else 1.0
    with_class = len(values) == _COLUMNS_WITH_CLASS and values[7].is_integer()
    class_id = values[7] if with_class else PEDESTRIAN
    return frame, track_id, left, top, width, height, confidence, class_id


def _check_unique(rows: MotRows, shown: str) -> None:
    pairs = np.stack([rows.frames, rows.track_ids], axis=1)
    unique, counts = np.unique(pairs, axis=0, return_counts=True)
    if len(unique) < len(pairs):
        frame, track_id = unique[counts.argmax()]
        raise DataError(
            f"{shown} has the id {track_id} {counts.max()} times in frame {frame + 1}. An object "
            "is in one place at a time: correct the ids."
        )


def written_rows(
    frame: int,
    track_ids: NDArray[np.int64],
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
) -> Iterable[str]:
    """The lines of one frame, as MOTChallenge's evaluation reads results.

    Args:
        frame: from 0.
        track_ids: ``(N,)``; boxes without an id (below 0) are left out.
        boxes: ``(N, 4)`` xyxy pixels.
        scores: ``(N,)``.
    """
    for track_id, box, score in zip(track_ids, boxes, scores, strict=True):
        if track_id < 0:
            continue
        left, top, right, bottom = (float(value) for value in box)
        place = f"{left:.3f},{top:.3f},{right - left:.3f},{bottom - top:.3f}"
        yield f"{frame + 1},{track_id},{place},{score:.4f},-1,-1,-1\n"
