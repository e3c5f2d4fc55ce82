"""Bounds of a drop, the classes it breaks, and agreement without labels."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from detection_scenes import scene
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.errors import DataError
from saccade.tasks.detections import Detections
from saccade.validate.agreement import agreement, agreement_drop
from saccade.validate.bootstrap import MapBootstrap, Replicates, replicates, resample_weights
from saccade.validate.detection_metrics import evaluate
from saccade.validate.drop_bound import interval_of, paired_drop
from saccade.validate.per_class import per_class_drops


def _means(per_image: np.ndarray, weights: np.ndarray) -> Replicates:
    """Replicates of a plain mean over images, whose sampling error is known."""
    count = len(per_image)
    left_out = (per_image.sum() - per_image) / (count - 1)
    return Replicates(per_image.mean(), weights @ per_image / count, left_out, count, 1 / count)


def _perturbed(found: Detections, seed: int) -> Detections:
    generator = np.random.default_rng(seed)
    return Detections.of(
        (boxes + generator.normal(0, 2, boxes.shape), generator.random(len(scores)), class_ids)
        for boxes, scores, class_ids in zip(found.boxes, found.scores, found.class_ids, strict=True)
    )


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_the_same_outputs_have_no_drop(seed: int) -> None:
    dataset, found = scene(seed, classes=1, images=12)
    both = replicates(evaluate(dataset, found), resample_weights(12, 50))
    bound = paired_drop(both.map50_95, both.map50_95)
    if math.isfinite(bound.standard_error):
        assert bound.estimate == bound.lower + bound.upper == 0
        assert (bound.upper > 0) == (both.map50_95.point > 0)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_bounds_are_ordered_and_turn_over(seed: int) -> None:
    dataset, found = scene(seed, images=12)
    weights = resample_weights(12, 80)
    base = replicates(evaluate(dataset, found), weights).map50_95
    other = replicates(evaluate(dataset, _perturbed(found, seed)), weights).map50_95
    bound, back = paired_drop(base, other), paired_drop(other, base)
    assert bound.interval.low <= bound.lower <= bound.estimate <= bound.upper <= bound.interval.high
    assert bound.upper_at(0.99) >= bound.upper
    assert back.upper == pytest.approx(-bound.lower)
    assert 0 <= bound.p_at_most(0.0) <= 1


def test_bounds_of_a_mean_cover() -> None:
    generator = np.random.default_rng(2)
    weights = resample_weights(40, 300)
    same = _means(np.zeros(40), weights)
    uppers = [
        paired_drop(_means(generator.normal(0.1, 0.1, 40), weights), same).upper for _ in range(200)
    ]
    assert np.mean(np.array(uppers) >= 0.1) >= 0.9


def test_what_no_image_showed_may_happen_all_the_same() -> None:
    """Forty that agree leave room for 7%: 0.93 to the power of 40 is 5%."""
    same = _means(np.ones(40), resample_weights(40, 50))
    assert paired_drop(same, same).upper == pytest.approx(1 - 0.05 ** (1 / 40))
    # Nothing is known of what may be lost where nothing is there to lose.
    assert paired_drop(replace(same, unit=0.0), replace(same, unit=0.0)).upper == 0


@pytest.mark.parametrize("share", [0.01, 0.03, 0.05, 0.08])
def test_bounds_of_rare_accidents_cover(share: float) -> None:
    """Exactly, over every number of accidents that a hundred images may show."""
    from scipy.stats import binom

    same = _means(np.ones(100), resample_weights(100, 300))
    missed = 0.0
    for accidents in range(30):
        hit = np.ones(100)
        hit[:accidents] = 0
        drop = paired_drop(same, _means(hit, resample_weights(100, 300)))
        missed += binom.pmf(accidents, 100, share) * (drop.upper < share)
    assert missed <= 0.08


def test_a_figure_is_bounded_as_a_drop_is() -> None:
    """All of twenty right is no proof of more than 86% (one-sided), or 83% (two-sided)."""
    found = interval_of(_means(np.ones(20), resample_weights(20, 50)))
    assert found.low == pytest.approx(0.025 ** (1 / 20))


def test_one_deciding_image_bounds_nothing() -> None:
    alone = Replicates(0.5, np.full(10, 0.5), np.array([np.nan, 0.5]), 2, 0.25)
    bound = paired_drop(alone, alone)
    assert (bound.lower, bound.upper) == (-math.inf, math.inf)
    assert bound.p_at_most(-1.0) == 1.0


def test_other_weights_are_refused() -> None:
    accuracy = evaluate(*scene(1))
    a = replicates(accuracy, resample_weights(8, 10)).map50
    b = replicates(accuracy, resample_weights(8, 11)).map50
    with pytest.raises(ValueError, match="same weights"):
        paired_drop(a, b)


def _class(per_image: np.ndarray, weights: np.ndarray) -> MapBootstrap:
    everything = _means(per_image, weights)
    return MapBootstrap(everything, everything, {0: everything, 1: everything, 2: everything})


def test_a_broken_class_is_named() -> None:
    weights = resample_weights(30, 400)
    generator = np.random.default_rng(0)
    good = generator.uniform(0.5, 0.7, 30)
    base = _class(good, weights)
    broken = _means(good - generator.uniform(0.3, 0.5, 30), weights)
    candidate = replace(base, per_class=base.per_class | {1: broken})
    worst, *rest = per_class_drops(base, candidate, 0.01, ("cat", "dog"))
    assert worst.broken
    assert worst.message.startswith("class dog is broken: 0.6")
    assert 0.05 < worst.at_least < worst.base - worst.candidate
    assert not any(drop.broken for drop in rest)
    assert {drop.name for drop in rest} == {"cat", "2"}
    assert not per_class_drops(base, candidate, 0.5)[0].broken


def test_a_few_images_prove_nothing_about_a_class() -> None:
    weights = resample_weights(3, 200)
    base, worse = _class(np.full(3, 0.9), weights), _class(np.full(3, 0.1), weights)
    assert not any(drop.broken for drop in per_class_drops(base, worse, 0.01))


def test_classes_must_be_the_same() -> None:
    weights = resample_weights(3, 20)
    base = _class(np.ones(3), weights)
    with pytest.raises(ValueError, match="same images"):
        per_class_drops(base, replace(base, per_class={}), 0.01)


@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_agreement_is_one_only_for_the_same(seed: int) -> None:
    dataset, found = scene(seed)
    if not any((s >= 0.25).any() for s in found.scores):
        return
    assert agreement(dataset, found, found).value == 1.0
    value = agreement(dataset, found, _perturbed(found, seed)).value
    assert 0 <= value <= 1
    nothing = Detections.of((np.zeros((0, 4)), [], []) for _ in dataset.images)
    assert agreement(dataset, found, nothing).value == 0.0


def test_agreement_drop_bounds_the_disagreement() -> None:
    dataset, found = scene(7, images=20)
    weights = resample_weights(20, 60)
    assert 0 < agreement_drop(agreement(dataset, found, found), weights).upper < 0.15
    other = agreement(dataset, found, _perturbed(found, 1))
    bound = agreement_drop(other, weights)
    assert bound.estimate == pytest.approx(1 - other.value)
    assert bound.lower < bound.estimate < bound.upper


def test_agreement_sees_an_invented_class() -> None:
    dataset, found = scene(7, classes=2)
    extra = Detections.of(
        (np.vstack([b, [[0, 0, 50, 50]]]), np.append(s, 0.9), np.append(c, 9))
        for b, s, c in zip(found.boxes, found.scores, found.class_ids, strict=True)
    )
    assert agreement(dataset, found, extra).value < 0.9


def test_agreement_without_confident_detections_is_refused() -> None:
    dataset, found = scene(7)
    faint = Detections(found.boxes, tuple(s * 0.2 for s in found.scores), found.class_ids)
    with pytest.raises(DataError, match="cannot be judged"):
        agreement(dataset, faint, found)
    assert agreement(replace(dataset, labelled=False), found, found).value == 1.0
    with pytest.raises(DataError, match="Run the system again"):
        agreement(replace(dataset, images=dataset.images[1:]), found, found)
