"""How many answers a change is likely to turn, from how close every answer was to turning. Pure.

A share of right answers moves in steps of one image: of 75 images a single one weighs 0.013, and
whether it turns is chance. What a change does is seen on every image, though: the margin of the
right class, how far its logit lies above the best of the others, moves a little on each. Taking
every movement seen on any image for as likely on every other gives the share that turns

    drop = mean over i of [ (m_i > 0) - mean over j of (m_i + d_j > 0) ],

m the margins before and d the movements: the same sum over n^2 pairs instead of n. It assumes that
movements do not depend on margins, so it is no bound and takes no bound's place; it speaks where
the labels cannot decide. See decision 0033.

The sum over pairs is a two-sample U-statistic (Hoeffding, "A Class of Statistics with
Asymptotically Normal Distribution", 1948).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# Movements of answers that are surer than this, nats (1 in 1000), say nothing of those that could
# turn: a softmax ends there for int8 outputs, and rounding grows with the logit.
NEAR = 7.0
# Fewer movements than this are no distribution.
LEAST = 20
# The count may differ from what is likely by so many of its standard errors, else it is believed.
DOUBTED = 2.0
_LEAST_PROBABILITY = 1e-12


def margins(scores: NDArray[np.float32], labels: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """How far each label is from leaving the first ``k`` classes, nats; above 0 it is there.

    Args:
        scores: ``(N, C)`` probabilities.
        labels: ``(N,)``; negative where an image has none, which gives NaN.
        k: from 1; below C.

    Returns:
        ``(N,)``.
    """
    # Logits but for a constant per image, which a difference does not see.
    logs = np.log(np.maximum(scores.astype(np.float64), _LEAST_PROBABILITY))
    rows = np.arange(len(labels))
    known = labels >= 0
    mine = logs[rows, np.maximum(labels, 0)]
    logs[rows[known], labels[known]] = -np.inf
    others = np.partition(logs, -k, axis=1)[:, -k]
    found: NDArray[np.float64] = np.where(known, mine - others, np.nan)
    return found


def likely_drop(before: NDArray[np.float64], after: NDArray[np.float64]) -> float | None:
    """The drop that is likely by the margins; None where they do not tell.

    Args:
        before: ``(N,)`` margins of the baseline; NaN where there is none.
        after: ``(N,)`` those of the candidate on the same images.

    Returns:
        None where too few answers come near turning, or where the count itself is further off than
        chance allows: then movements do depend on margins.
    """
    judged = np.isfinite(before) & np.isfinite(after)
    was, now = before[judged], after[judged]
    near = np.abs(was) <= NEAR
    if np.count_nonzero(near) < LEAST:
        return None
    right = was > 0
    stays = _share_above(was, np.sort((now - was)[near]))
    turned = np.where(right, 1 - stays, stays)
    likely = float((right - stays).mean())
    counted = float((right.astype(float) - (now > 0)).mean())
    error = math.sqrt(float(turned.mean()) / len(was))
    return likely if abs(counted - likely) <= DOUBTED * error else None


def _share_above(margin: NDArray[np.float64], moves: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(N,)`` share of the sorted ``moves`` with which a margin lies above 0."""
    below = np.searchsorted(moves, -margin, side="right")
    share: NDArray[np.float64] = 1 - below / len(moves)
    return share
