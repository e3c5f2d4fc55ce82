"""Judge of tracking: HOTA, MOTA and IDF1 by TrackEval; agreement by IDF1.

Points are TrackEval's. The replicates that bounds rest on draw blocks of consecutive frames
(`saccade.validate.blocks` says what that assumes) and, for what identities decide, objects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from saccade.data.contract import Dataset
from saccade.data.sequences import clips_of
from saccade.errors import DataError, MissingExtraError
from saccade.tasks.tracks import Tracks
from saccade.validate.blocks import blocks_of
from saccade.validate.bootstrap import (
    Replicates,
    left_out_weights,
    resample_weights,
    unit_of,
)
from saccade.validate.contract import Scored, check_judgeable, check_length
from saccade.validate.drop_bound import DropBound, paired_drop
from saccade.validate.ratios import ratio_replicates
from saccade.validate.track_counts import TrackCounts, count_tracks, together
from saccade.validate.track_matches import TrackMatches, as_truth, match_tracks

# A figure by the weights of blocks and of objects, row by row.
Figure = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]
# Systems are compared on the same draws of objects.
OBJECT_SEED = 0


class TrackingJudge:
    """HOTA, MOTA and IDF1, over all sequences together."""

    # Tracks depend on the tracker's own thresholds, so none is put in their place.
    threshold: ClassVar[float] = 0.0
    agreement_threshold: ClassVar[float] = 0.0

    @staticmethod
    def scored(dataset: Dataset, outputs: Tracks, weights: NDArray[np.int64]) -> Scored:
        """All three, with replicates from blocks of frames.

        Args:
            dataset: frames of sequences, with track ids.
            outputs: one result per frame.
            weights: ``(B, blocks)`` from `saccade.validate.blocks.unit_weights`.
        """
        check_judgeable(dataset, len(outputs))
        check_frames(dataset)
        judged = _Judged.of(dataset, outputs)
        points = trackeval_metrics(judged.sequences)
        hota = _replicates(judged.counts.hota, judged, weights)
        idf1 = _replicates(judged.counts.idf1, judged, weights)
        truth = judged.counts.true_boxes.sum(axis=1)
        mota = ratio_replicates(truth - judged.errors(), truth, weights)
        found = {"hota": hota, "mota": mota, "idf1": idf1}
        stretches = judged.counts.stretches
        return Scored(
            {
                name: replace(r, point=points[name], unit=unit_of(points[name], stretches))
                for name, r in found.items()
            }
        )

    @staticmethod
    def agreement(
        dataset: Dataset, reference: Tracks, candidate: Tracks, weights: NDArray[np.int64]
    ) -> DropBound:
        """One minus the IDF1 of the candidate with the reference's tracks for the truth.

        IDF1 is the same in both directions. It sees lost and swapped identities, missing and
        additional boxes; it does not see where a box lies, as long as both overlap by half.

        Raises:
            DataError: the reference tracked nothing, or the tracks are of other frames.
        """
        check_length(dataset, len(candidate))
        check_frames(dataset)
        if not any((ids >= 0).any() for ids in reference.track_ids):
            raise DataError(
                f"Agreement cannot be judged: the baseline tracks nothing in the {len(dataset)} "
                f"frames of '{dataset.name}'. Give a video that shows what the model detects, or "
                "lower the tracker's 'new_track_score'."
            )
        truth = replace(dataset, images=as_truth(dataset.images, reference), labelled=True)
        judged = _Judged.of(truth, candidate)
        found = _replicates(judged.counts.idf1, judged, weights)
        ones = np.ones_like(found.drawn), np.ones_like(found.left_out)
        return paired_drop(Replicates(1.0, *ones, found.images, found.unit), found)


def check_frames(dataset: Dataset) -> None:
    """Refuse images that are not frames in a row.

    Raises:
        DataError: as said.
    """
    if not clips_of(dataset.images):
        raise DataError(
            f"'{dataset.name}' holds single images, but tracks are judged on consecutive frames. "
            "Give a MOTChallenge sequence: gt/gt.txt with img1/ or a video."
        )


class _Judged:
    """One system's tracks against the truth, sequence by sequence and block by block."""

    def __init__(
        self,
        sequences: tuple[TrackMatches, ...],
        block_of: tuple[NDArray[np.int64], ...],
        blocks: int,
    ) -> None:
        self.sequences = sequences
        self.blocks = blocks
        self._block_of = block_of
        self.counts: TrackCounts = together(
            [
                count_tracks(matches, block, blocks)
                for matches, block in zip(sequences, block_of, strict=True)
            ]
        )

    @classmethod
    def of(cls, dataset: Dataset, tracks: Tracks) -> _Judged:
        blocks = blocks_of(dataset)
        sequences, block_of, start = [], [], 0
        for clip in clips_of(dataset.images):
            part = slice(start, start + len(clip))
            own = Tracks(
                tracks.boxes[part],
                tracks.scores[part],
                tracks.class_ids[part],
                tracks.track_ids[part],
            )
            sequences.append(match_tracks(dataset.images[part], own))
            block_of.append(blocks[part])
            start = part.stop
        return cls(tuple(sequences), tuple(block_of), int(blocks.max()) + 1)

    def errors(self) -> NDArray[np.float64]:
        """Misses, false positives and switches of each block, ``(K,)``, counted by TrackEval.

        CLEAR matches from frame to frame and never looks ahead, so a block's errors are those up
        to its end without those up to its beginning.
        """
        found = np.zeros(self.blocks)
        for matches, blocks in zip(self.sequences, self._block_of, strict=True):
            before = 0.0
            for block in np.unique(blocks):
                until = matches.until(int(np.flatnonzero(blocks == block)[-1]) + 1)
                clear = _metric("CLEAR").eval_sequence(until.document())
                errors = float(clear["CLR_FN"] + clear["CLR_FP"] + clear["IDSW"])
                found[block] += errors - before
                before = errors
        return found


def trackeval_metrics(sequences: tuple[TrackMatches, ...]) -> dict[str, float]:
    """HOTA, MOTA and IDF1 of all sequences together, by TrackEval.

    Raises:
        MissingExtraError: TrackEval is not installed.
    """
    documents = {str(index): matches.document() for index, matches in enumerate(sequences)}

    def combined(name: str, field: str) -> float:
        metric = _metric(name)
        each = {key: metric.eval_sequence(document) for key, document in documents.items()}
        return float(np.mean(metric.combine_sequences(each)[field]))

    return {
        "hota": combined("HOTA", "HOTA"),
        "mota": combined("CLEAR", "MOTA"),
        "idf1": combined("Identity", "IDF1"),
    }


def _metric(name: str) -> Any:
    try:
        from trackeval import metrics
    except ImportError as error:
        raise MissingExtraError("trackeval", "tracking", "Judging tracks") from error
    kind = getattr(metrics, name)
    return kind() if name == "HOTA" else kind({"PRINT_CONFIG": False})


def _replicates(figure: Figure, judged: _Judged, weights: NDArray[np.int64]) -> Replicates:
    """A figure on resamples of blocks and objects, and with each block left out.

    Blocks alone would be too sure: an object whose identity is lost early scores lower in every
    block that follows, which looks like as many witnesses and is one. So objects are drawn too,
    independently of blocks, and a match counts as often as both of its own (Owen, "The Pigeonhole
    Bootstrap", 2007, which errs on the safe side); the bounds have the degrees of freedom of
    whichever there are fewer of. A found box that is no object counts with its block.
    """
    if weights.shape[1] != judged.blocks:
        raise ValueError(f"weights have shape {weights.shape}, expected (B, {judged.blocks})")
    count = judged.counts.objects
    drawn = resample_weights(max(1, count), len(weights), OBJECT_SEED)[:, :count]
    left_out = left_out_weights(judged.blocks)
    every = np.ones((1, judged.blocks), np.int64)
    once = np.ones((1 + judged.blocks, count), np.int64)
    values = figure(np.concatenate([every, left_out, weights]), np.concatenate([once, drawn]))
    cut = 1 + judged.blocks
    unit = unit_of(float(values[0]), judged.counts.stretches)
    images = min(judged.blocks, count)
    return Replicates(float(values[0]), values[cut:], values[1:cut], images, unit)
