"""Counts by block and object behind HOTA and IDF1, and both on any choice of these.

HOTA matches frame by frame, but by how well ids fit over the whole sequence, and scores each match
by its pair of ids over the whole sequence. The matching is made once, on all frames, by TrackEval's
rule; a resample then counts matches, true boxes and found boxes as often as their block and their
object were drawn. With everything once this is TrackEval's HOTA. What a resample leaves out is
that ids would be aligned anew on the frames drawn.

Sources: Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking" (2021),
sections 3 and 5; Ristani et al., "Performance Measures and a Data Set for Multi-Target,
Multi-Camera Tracking" (2016) for IDF1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.validate.track_matches import TrackMatches

# Localization thresholds of HOTA, and the one of IDF1.
ALPHAS = np.arange(0.05, 0.99, 0.05)
IDENTITY_IOU = 0.5
Weights = NDArray[np.int64]
_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class TrackCounts:
    """Counts of K blocks over P pairs of a true id and a track.

    Attributes:
        pairs: ``(P, 2)`` true id and track of every pair that ever overlapped.
        matched: ``(K, A, P)`` frames in which the pair was matched, by alpha.
        close: ``(K, P)`` frames in which the pair overlapped by at least `IDENTITY_IOU`.
        true_boxes: ``(K, G)`` boxes of each true id.
        found_boxes: ``(K, T)`` boxes of each track.
    """

    pairs: NDArray[np.int64]
    matched: NDArray[np.float64]
    close: NDArray[np.float64]
    true_boxes: NDArray[np.float64]
    found_boxes: NDArray[np.float64]

    @property
    def objects(self) -> int:
        """How many true objects there are."""
        return int(self.true_boxes.shape[1])

    @property
    def stretches(self) -> int:
        """How often a track followed an object through a block; its frames are one witness."""
        return int(np.count_nonzero(self.close))

    def hota(self, blocks: Weights, objects: Weights) -> NDArray[np.float64]:
        """Mean HOTA over alphas, with blocks and objects counted as often as their weights say.

        Args:
            blocks: ``(B, K)``.
            objects: ``(B, G)``.

        Returns:
            ``(B,)``, NaN where there is nothing to judge.
        """
        per_true, per_found = self._boxes(blocks, objects)
        truth, found = per_true.sum(axis=1), per_found.sum(axis=1)
        either = per_true[:, self.pairs[:, 0]] + per_found[:, self.pairs[:, 1]]
        of_pair = objects[:, self.pairs[:, 0]]
        total = np.zeros(len(blocks))
        for alpha in range(len(ALPHAS)):
            matched = (blocks @ self.matched[:, alpha]) * of_pair
            hits = matched.sum(axis=1)
            associated = (matched * matched / np.maximum(1, either - matched)).sum(axis=1)
            detection = hits / np.maximum(1, truth + found - hits)
            total += np.sqrt(detection * associated / np.maximum(1, hits))
        return np.where(truth + found > 0, total / len(ALPHAS), np.nan)

    def idf1(self, blocks: Weights, objects: Weights) -> NDArray[np.float64]:
        """IDF1 ``(B,)`` likewise, true objects and tracks paired anew in each row."""
        from scipy.optimize import linear_sum_assignment

        close = (blocks @ self.close) * objects[:, self.pairs[:, 0]]
        per_true, per_found = self._boxes(blocks, objects)
        boxes = per_true.sum(axis=1) + per_found.sum(axis=1)
        table = np.zeros((self.objects, self.found_boxes.shape[1]))
        same = np.zeros(len(blocks))
        for row, counts in enumerate(close):
            table[self.pairs[:, 0], self.pairs[:, 1]] = counts
            same[row] = table[linear_sum_assignment(table, maximize=True)].sum()
        return np.where(boxes > 0, 2 * same / np.maximum(1, boxes), np.nan)

    def _boxes(
        self, blocks: Weights, objects: Weights
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Boxes of each true object ``(B, G)`` and of each track ``(B, T)``.

        A found box that is matched counts as often as its object, another as often as its block.
        """
        more = (blocks @ self.matched[:, 0]) * (objects[:, self.pairs[:, 0]] - 1)
        found = blocks @ self.found_boxes
        for pair, track in enumerate(self.pairs[:, 1]):
            found[:, track] += more[:, pair]
        return (blocks @ self.true_boxes) * objects, found


def count_tracks(matches: TrackMatches, block_of: NDArray[np.int64], blocks: int) -> TrackCounts:
    """Count one sequence.

    Args:
        matches: of the sequence.
        block_of: ``(frames,)`` the block of each frame.
        blocks: how many there are in all.
    """
    table = _pair_numbers(matches)
    matched = np.zeros((blocks, len(ALPHAS), len(table.pairs)))
    close = np.zeros((blocks, len(table.pairs)))
    true_boxes = np.zeros((blocks, matches.true_count))
    found_boxes = np.zeros((blocks, matches.found_count))
    alignment = _alignment(matches)
    frames = zip(block_of, matches.true_ids, matches.found_ids, matches.overlaps, strict=True)
    for block, true_ids, found_ids, overlaps in frames:
        true_boxes[block, true_ids] += 1
        found_boxes[block, found_ids] += 1
        near = np.nonzero(overlaps >= IDENTITY_IOU)
        close[block, table.number[true_ids[near[0]], found_ids[near[1]]]] += 1
        rows, columns = _best(alignment[np.ix_(true_ids, found_ids)] * overlaps)
        overlap = overlaps[rows, columns]
        rows, columns, overlap = rows[overlap > 0], columns[overlap > 0], overlap[overlap > 0]
        pair = table.number[true_ids[rows], found_ids[columns]]
        matched[block][:, pair] += overlap >= ALPHAS[:, None] - _EPSILON
    return TrackCounts(table.pairs, matched, close, true_boxes, found_boxes)


def together(parts: list[TrackCounts]) -> TrackCounts:
    """Counts of several sequences, whose ids have nothing to do with each other."""
    true_first = np.cumsum([0, *(part.true_boxes.shape[1] for part in parts)])
    found_first = np.cumsum([0, *(part.found_boxes.shape[1] for part in parts)])
    shifted = [
        part.pairs + np.array([true_first[index], found_first[index]])
        for index, part in enumerate(parts)
    ]
    return TrackCounts(
        np.concatenate(shifted),
        np.concatenate([part.matched for part in parts], axis=2),
        np.concatenate([part.close for part in parts], axis=1),
        np.concatenate([part.true_boxes for part in parts], axis=1),
        np.concatenate([part.found_boxes for part in parts], axis=1),
    )


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs ``(P, 2)`` that ever overlap, and their numbers by true id and track ``(G, T)``."""

    pairs: NDArray[np.int64]
    number: NDArray[np.int64]


def _pair_numbers(matches: TrackMatches) -> _Pairs:
    touched = np.zeros((matches.true_count, matches.found_count), np.bool_)
    frames = zip(matches.true_ids, matches.found_ids, matches.overlaps, strict=True)
    for true_ids, found_ids, overlaps in frames:
        touched[np.ix_(true_ids, found_ids)] |= overlaps > 0
    number = np.cumsum(touched.ravel()).reshape(touched.shape) - 1
    return _Pairs(np.argwhere(touched), number)


def _alignment(matches: TrackMatches) -> NDArray[np.float64]:
    """How well each true id fits each track over all frames, ``(G, T)``: a soft Jaccard index."""
    shared = np.zeros((matches.true_count, matches.found_count))
    per_true, per_found = np.zeros(matches.true_count), np.zeros(matches.found_count)
    frames = zip(matches.true_ids, matches.found_ids, matches.overlaps, strict=True)
    for true_ids, found_ids, overlaps in frames:
        per_true[true_ids] += 1
        per_found[found_ids] += 1
        either = overlaps.sum(axis=0)[None] + overlaps.sum(axis=1)[:, None] - overlaps
        share = np.divide(overlaps, either, out=np.zeros_like(overlaps), where=either > _EPSILON)
        shared[np.ix_(true_ids, found_ids)] += share
    return shared / np.maximum(per_true[:, None] + per_found[None] - shared, _EPSILON)


def _best(scores: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The one-to-one matching ``(M,)``, ``(M,)`` of the highest total score."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-scores)
    return rows, columns
