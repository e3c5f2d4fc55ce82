"""What the margins of all answers say of a drop that the count of a few images cannot tell."""

from __future__ import annotations

import numpy as np
import pytest
from test_validate_tasks import classified

from saccade.tasks.classification import ClassScores
from saccade.validate.bootstrap import resample_weights
from saccade.validate.classification import ClassificationJudge, hits
from saccade.validate.drop_bound import DropBound, paired_drop
from saccade.validate.guard import final_bound, judge
from saccade.validate.margins import LEAST, likely_drop, margins


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("k", [1, 5])
def test_a_margin_is_above_zero_where_the_label_is_among_the_first(k: int) -> None:
    random = np.random.default_rng(0)
    scores = softmax(random.normal(0, 2, (300, 8)))
    labels = random.integers(0, 8, 300)
    found = margins(scores, labels, k)
    assert np.array_equal(found > 0, hits(ClassScores(scores), labels, k) > 0)


def test_ties_count_against_the_system_and_no_label_has_no_margin() -> None:
    found = margins(np.array([[0.5, 0.5, 0.0], [0.7, 0.2, 0.1]], np.float32), np.array([0, -1]), 1)
    assert found[0] == 0
    assert np.isnan(found[1])


def test_the_margin_of_the_first_is_the_difference_of_logits() -> None:
    found = margins(softmax(np.array([[3.0, 1.0, -2.0]])), np.array([0]), 1)
    assert found == pytest.approx([2.0], abs=1e-5)


def test_it_is_nearer_to_the_truth_than_the_count() -> None:
    """Rounding noise on 75 images, drawn 400 times from a model that the truth is known of."""
    random = np.random.default_rng(1)

    def drawn(images: int) -> tuple[np.ndarray, np.ndarray]:
        before = random.normal(2.5, 3.0, images)
        return before, before + random.normal(-0.1, 0.5, images)

    many = drawn(2_000_000)
    truth = float((many[0] > 0).mean() - (many[1] > 0).mean())
    samples = [drawn(75) for _ in range(400)]
    likely = np.array([likely_drop(*sample) for sample in samples], float)
    counted = np.array([(b > 0).mean() - (a > 0).mean() for b, a in samples])
    told = np.isfinite(likely)
    assert told.mean() > 0.9
    assert abs(likely[told].mean() - truth) < 0.002
    error, of_count = (np.sqrt(((v - truth) ** 2).mean()) for v in (likely[told], counted))
    assert error < 0.8 * of_count


def test_a_change_that_moves_nothing_turns_nothing() -> None:
    before = np.linspace(-3, 5, 40)
    assert likely_drop(before, before) == 0


def test_movements_that_depend_on_margins_are_not_believed() -> None:
    # All that were right by little are wrong now, and nothing else moved: 20 of 100.
    before = np.linspace(-5, 5, 100)
    after = np.where((before > 0) & (before < 2), -0.01, before)
    assert likely_drop(before, after) is None


def test_too_few_answers_near_turning_tell_nothing() -> None:
    sure = np.full(500, 12.0)
    few = np.linspace(-3, 3, LEAST - 1)
    assert likely_drop(np.concatenate([sure, few]), np.concatenate([sure, few - 0.1])) is None


def test_the_guard_decides_by_it_where_the_labels_do_not() -> None:
    one_image = DropBound(0.0133, 75, 0.0133, np.full(200, 0.0133), 1 / 75)
    within = DropBound(0.0133, 75, 0.0133, np.full(200, 0.0133), 1 / 75, by_margins=0.002)
    beyond = DropBound(0.0, 75, 0.0133, np.zeros(200), 1 / 75, by_margins=0.03)
    verdicts = [judge(d, 0.01, "near_lossless", 1, 75) for d in (one_image, within, beyond)]
    assert [v.decision for v in verdicts] == ["reject", "keep", "reject"]
    assert "0.0020 by the margins" in verdicts[1].reason
    assert verdicts[1].provisional
    assert judge(within, 0.01, "lossy", 1, 75).decision == "reject"
    final = final_bound(within, 0.01, 1, 75)
    assert not final.holds
    assert (final.likely, final.estimate) == (0.002, 0.0133)


def test_a_bound_that_excludes_what_is_allowed_is_not_talked_away() -> None:
    shown = DropBound(0.2, 75, 0.02, np.full(200, 0.2), 1 / 75, by_margins=0.0)
    assert judge(shown, 0.01, "near_lossless", 1, 75).decision == "reject"
    assert final_bound(shown, 0.01, 1, 75).likely > 0.01


def test_the_judge_of_classification_gives_them() -> None:
    random = np.random.default_rng(2)
    logits = random.normal(0, 2, (60, 10))
    labels = np.where(random.random(60) < 0.8, logits.argmax(axis=1), 0)
    dataset = classified(labels, 10)
    weights = resample_weights(60, 100)
    outputs = [ClassScores(softmax(logits + random.normal(0, s, logits.shape))) for s in (0, 0.3)]
    before, after = (ClassificationJudge.scored(dataset, o, weights).metrics for o in outputs)
    for name in ("top1", "top5"):
        found = paired_drop(before[name], after[name])
        assert found.by_margins is not None
        assert found.lower < found.by_margins < found.upper
    lost = ClassificationJudge.agreement(dataset, outputs[0], outputs[1], weights)
    assert lost.by_margins is not None
    assert 0 < lost.by_margins < lost.upper
