"""ByteTrack from the package ``trackers``, and its motion model where no detection is asked for.

Source: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box" (2022).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import MissingExtraError
from saccade.pipeline.config import TrackerOptions
from saccade.tasks.results import DetectionResult
from saccade.tasks.tracks import NO_TRACK

# MOTChallenge counts ids from 1, the library from 0.
_FIRST_ID = 1
# The library counts a lost track's time in thirtieths of a second.
_BUFFER_RATE = 30


class ByteTracker:
    """Follows the objects of one stream.

    Time is counted in frames, so that frames left out between two detections stretch the motion
    by as much: the Kalman filters step over them, with their noise, as the library's support of
    uneven frame rates does.

    Raises:
        MissingExtraError: ``trackers`` is not installed.
    """

    def __init__(self, options: TrackerOptions) -> None:
        try:
            from trackers import ByteTrackTracker
        except ImportError as error:
            raise MissingExtraError("trackers", "tracking", "Tracking") from error
        self._options = options
        self._tracker = ByteTrackTracker(
            lost_track_buffer=_BUFFER_RATE * options.lost_frames,
            frame_rate=1.0,
            track_activation_threshold=options.new_track_score,
            minimum_consecutive_frames=options.confirm_hits,
            minimum_iou_threshold=options.match_iou,
            high_conf_det_threshold=options.high_score,
        )
        # Score and class by track, of the tracks that the last detection confirmed.
        self._seen: dict[int, tuple[float, int]] = {}
        self._last = 0

    def update(self, found: DetectionResult, frame: int) -> DetectionResult:
        """Match a frame's detections with the tracks.

        Args:
            found: the detections of the frame, those of low score included.
            frame: its position in the stream; larger than at the call before.

        Returns:
            The boxes that belong to a track, and those of high score that do not (yet), with
            `NO_TRACK` for an id.
        """
        import supervision

        detections = supervision.Detections(
            xyxy=found.boxes, confidence=found.scores, class_id=found.class_ids
        )
        matched = self._tracker.update(detections, timestamp=float(frame))
        self._last = frame
        if not len(matched):
            self._seen = {}
            return _result([], [], [], [])
        ids = np.asarray(matched.tracker_id, np.int64)
        shown = (ids >= 0) | (matched.confidence >= self._options.high_score)
        order = np.flatnonzero(shown)[np.argsort(-matched.confidence[shown], kind="stable")]
        scores, classes, ids = matched.confidence[order], matched.class_id[order], ids[order]
        self._seen = {
            track: (score, class_id)
            for track, score, class_id in zip(
                ids.tolist(), scores.tolist(), classes.tolist(), strict=True
            )
            if track >= 0
        }
        return _result(matched.xyxy[order], scores, classes, _numbered(ids))

    def predict(self, frame: int, frame_hw: tuple[int, int]) -> DetectionResult:
        """Where the objects of the last detection are by now, by constant velocity.

        The tracks stay as they are, so a detection that comes later starts from what was seen and
        not from what was guessed. Score and class are those of the last detection.

        Args:
            frame: position in the stream, after that of the last detection.
            frame_hw: height and width of the frame, which the boxes are clipped to.
        """
        limit = np.array([frame_hw[1], frame_hw[0]] * 2, np.float32)
        ahead = frame - self._last
        boxes = {
            track.tracker_id: np.clip(_box_after(track.state_estimator, ahead), 0, limit)
            for track in self._tracker.tracks
            if track.tracker_id in self._seen
        }
        # In the order of the last detection, best score first; without what has left the frame.
        ids = [i for i in self._seen if i in boxes and (boxes[i][2:] > boxes[i][:2]).all()]
        return _result(
            [boxes[i] for i in ids],
            [self._seen[i][0] for i in ids],
            [self._seen[i][1] for i in ids],
            _numbered(np.array(ids, np.int64)),
        )


def _box_after(estimator: Any, frames: int) -> NDArray[np.float32]:
    """The box ``(4,)`` of a Kalman filter some frames on, the filter left as it was."""
    before = estimator.get_state()
    estimator.predict(float(frames))
    box: NDArray[np.float32] = np.array(estimator.state_to_bbox(), np.float32)
    estimator.set_state(before)
    return box


def _numbered(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(ids >= 0, ids + _FIRST_ID, NO_TRACK)


def _result(boxes: Any, scores: Any, classes: Any, ids: Any) -> DetectionResult:
    return DetectionResult(
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray(scores, np.float32).reshape(-1),
        np.asarray(classes, np.int64).reshape(-1),
        track_ids=np.asarray(ids, np.int64).reshape(-1),
    )
