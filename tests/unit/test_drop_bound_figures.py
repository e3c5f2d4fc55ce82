"""Bounds of a figure itself hold over many data sets; a drop's around the baseline's do not."""

from __future__ import annotations

import numpy as np

from saccade.validate.bootstrap import Replicates, resample_weights
from saccade.validate.drop_bound import figure_itself, kept_share, paired_drop, same_system
from saccade.validate.ratios import share_replicates

IMAGES, SETS, LEVEL = 60, 300, 0.95
# The share of images that the baseline gets right, and what the candidate adds and loses.
RIGHT, CHANGED = 0.7, 0.05


def a_set(random: np.random.Generator) -> tuple[Replicates, Replicates]:
    """Both systems on the same images of one data set; the candidate is as good."""
    before = random.random(IMAGES) < RIGHT
    flips = random.random(IMAGES) < np.where(before, CHANGED, CHANGED * RIGHT / (1 - RIGHT))
    weights = resample_weights(IMAGES, 200, int(random.integers(2**31)))
    every = np.ones(IMAGES, np.bool_)
    first, second = (
        share_replicates(hits.astype(float), every, weights) for hits in (before, before ^ flips)
    )
    return first, second


def test_lower_bounds_hold_as_often_as_they_say() -> None:
    random = np.random.default_rng(0)
    sets = [a_set(random) for _ in range(SETS)]
    own = [figure_itself(after).lower_at(LEVEL) for _, after in sets]
    by_drop = [b.point - paired_drop(b, a).upper_at(LEVEL) for b, a in sets]
    # Of 300 sets, 95 % give or take three standard deviations.
    assert np.mean(np.array(own) <= RIGHT) > 0.91
    assert np.mean(np.array(by_drop) <= RIGHT) < 0.91


def test_agreement_is_what_the_drop_leaves() -> None:
    first, second = a_set(np.random.default_rng(1))
    drop = paired_drop(first, second)
    kept = kept_share(drop)
    assert kept.lower_at(LEVEL) == 1 - drop.upper_at(LEVEL)
    assert np.isclose(kept.upper_at(LEVEL), 1 - drop.lower_at(LEVEL))
    same = kept_share(same_system())
    assert (same.lower_at(LEVEL), same.upper_at(LEVEL)) == (1, 1)
