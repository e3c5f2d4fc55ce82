"""Tracks against the truth, as TrackEval takes them: ids from 0 and overlaps, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import LabelledImage
from saccade.tasks.tracks import Tracks

# From this overlap on a box is taken to show the distractor that it lies on (MOTChallenge).
_IGNORED_IOU = 0.5


@dataclass(frozen=True, eq=False)
class TrackMatches:
    """One system on consecutive frames.

    Attributes:
        true_ids: per frame ``(N,)`` int64, from 0 without gaps.
        found_ids: per frame ``(M,)`` int64, from 0 without gaps.
        overlaps: per frame ``(N, M)`` IoU; 0 between boxes of different classes.
        true_count: number of true objects.
        found_count: number of tracks.
    """

    true_ids: tuple[NDArray[np.int64], ...]
    found_ids: tuple[NDArray[np.int64], ...]
    overlaps: tuple[NDArray[np.float64], ...]
    true_count: int
    found_count: int

    def until(self, frames: int) -> TrackMatches:
        """Only the first ``frames`` frames; ids stay."""
        return replace(
            self,
            true_ids=self.true_ids[:frames],
            found_ids=self.found_ids[:frames],
            overlaps=self.overlaps[:frames],
        )

    def document(self) -> dict[str, Any]:
        """What TrackEval's metrics take as a sequence."""
        return {
            "num_timesteps": len(self.true_ids),
            "num_gt_ids": self.true_count,
            "num_tracker_ids": self.found_count,
            "num_gt_dets": sum(map(len, self.true_ids)),
            "num_tracker_dets": sum(map(len, self.found_ids)),
            "gt_ids": list(self.true_ids),
            "tracker_ids": list(self.found_ids),
            "similarity_scores": list(self.overlaps),
        }


def match_tracks(images: Sequence[LabelledImage], tracks: Tracks) -> TrackMatches:
    """Tracks of consecutive frames against their labels.

    Boxes without an id count for nothing, and neither do those that lie on a distractor (a label
    marked as a crowd), as MOTChallenge has it.
    """
    frames = [_Frame.of(image, tracks, index) for index, image in enumerate(images)]
    true_ids, true_count = _from_zero([frame.true_ids for frame in frames])
    found_ids, found_count = _from_zero([frame.found_ids for frame in frames])
    overlaps = tuple(frame.overlaps for frame in frames)
    return TrackMatches(true_ids, found_ids, overlaps, true_count, found_count)


def as_truth(images: Sequence[LabelledImage], tracks: Tracks) -> tuple[LabelledImage, ...]:
    """The images with what a system tracked for labels."""
    labelled = []
    for index, image in enumerate(images):
        kept = tracks.track_ids[index] >= 0
        labelled.append(
            replace(
                image,
                boxes=tracks.boxes[index][kept],
                class_ids=tracks.class_ids[index][kept],
                crowd=np.zeros(int(kept.sum()), np.bool_),
                track_ids=tracks.track_ids[index][kept],
            )
        )
    return tuple(labelled)


@dataclass(frozen=True, eq=False)
class _Frame:
    true_ids: NDArray[np.int64]
    found_ids: NDArray[np.int64]
    overlaps: NDArray[np.float64]

    @classmethod
    def of(cls, image: LabelledImage, tracks: Tracks, index: int) -> _Frame:
        assert image.track_ids is not None
        kept = tracks.track_ids[index] >= 0
        overlaps = box_overlaps(image.boxes, tracks.boxes[index][kept])
        wanted = _not_on(image.crowd, overlaps)
        classes = tracks.class_ids[index][kept][wanted]
        counted = ~image.crowd
        same = image.class_ids[counted][:, None] == classes[None]
        return cls(
            image.track_ids[counted],
            tracks.track_ids[index][kept][wanted],
            overlaps[counted][:, wanted] * same,
        )


def _not_on(ignored: NDArray[np.bool_], overlaps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which found boxes ``(M,)`` are not best matched with an ignored true box."""
    wanted = np.ones(overlaps.shape[1], np.bool_)
    if not ignored.any():
        return wanted
    from scipy.optimize import linear_sum_assignment

    close = np.where(overlaps >= _IGNORED_IOU, overlaps, 0.0)
    rows, columns = linear_sum_assignment(close, maximize=True)
    on_ignored = (close[rows, columns] > 0) & ignored[rows]
    wanted[columns[on_ignored]] = False
    return wanted


def box_overlaps(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """IoU ``(N, M)`` of xyxy boxes ``(N, 4)`` and ``(M, 4)``, in continuous coordinates."""
    a, b = first.astype(np.float64)[:, None], second.astype(np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.clip(sides, 0, None).prod(axis=-1)
    either = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1)
    found: NDArray[np.float64] = shared / np.maximum(either - shared, 1e-12)
    return found


def _from_zero(
    ids: Sequence[NDArray[np.int64]],
) -> tuple[tuple[NDArray[np.int64], ...], int]:
    known = np.unique(np.concatenate([*ids, np.empty(0, np.int64)]))
    return tuple(np.searchsorted(known, frame) for frame in ids), len(known)
