"""The guard keeps a change for its bound and says how many labels would decide."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.validate.drop_bound import DropBound
from saccade.validate.guard import ChangeKind, final_bound, judge

KINDS: tuple[ChangeKind, ...] = ("exact", "near_lossless", "lossy")


def _drop(estimate: float, error: float) -> DropBound:
    return DropBound(estimate, 64, error, np.full(200, estimate))


@pytest.mark.parametrize("kind", KINDS)
def test_a_bounded_drop_is_kept(kind: ChangeKind) -> None:
    verdict = judge(_drop(0.002, 0.002), 0.01, kind, 1, 64)
    assert (verdict.decision, verdict.provisional) == ("keep", False)
    assert "within the 0.01 allowed" in verdict.reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", [0.001, 0.02])
def test_too_large_a_drop_is_rejected(kind: ChangeKind, error: float) -> None:
    verdict = judge(_drop(0.03, error), 0.01, kind, 1, 64)
    assert (verdict.decision, verdict.provisional) == ("reject", False)
    assert verdict.labels_needed is None


def test_a_lucky_estimate_is_not_enough_for_a_lossy_change() -> None:
    verdict = judge(_drop(0.003, 0.02), 0.01, "lossy", 1, 64)
    assert (verdict.decision, verdict.provisional) == ("reject", True)
    assert verdict.labels_needed is not None
    assert verdict.labels_needed > 1000
    assert f"about {verdict.labels_needed} labelled images would" in verdict.reason


@pytest.mark.parametrize("kind", ["exact", "near_lossless"])
def test_a_rounding_change_is_kept_provisionally(kind: ChangeKind) -> None:
    verdict = judge(_drop(0.003, 0.006), 0.01, kind, 50, 64)
    assert (verdict.decision, verdict.provisional) == ("keep", True)
    assert "provisionally" in verdict.reason
    assert verdict.level == pytest.approx(0.95)


def test_more_candidates_need_a_better_bound() -> None:
    drop = _drop(0.0, 0.005)
    assert judge(drop, 0.01, "lossy", 1, 64).decision == "keep"
    assert judge(drop, 0.01, "lossy", 10, 64).decision == "reject"


def test_labels_that_bound_nothing() -> None:
    drop = _drop(0.0, math.inf)
    assert judge(drop, 0.01, "lossy", 1, 1).decision == "reject"
    verdict = judge(drop, 0.01, "exact", 1, 1)
    assert verdict.decision == "undecided"
    assert "cannot bound" in verdict.reason
    assert not final_bound(drop, 0.01, 1, 1).holds


def test_an_estimate_at_the_limit_needs_no_end_of_labels() -> None:
    verdict = judge(_drop(0.01, 0.005), 0.01, "lossy", 1, 64)
    assert verdict.labels_needed is None
    assert "no number would" in verdict.reason


def test_falling_back_spends_half_of_the_error_each_time() -> None:
    drop = _drop(0.0, 0.005)
    attempts = [final_bound(drop, 0.01, k, 64) for k in (1, 2, 3)]
    assert [a.level for a in attempts] == pytest.approx([0.975, 0.9875, 0.99375])
    assert [a.holds for a in attempts] == [True, False, False]
    assert attempts[1].labels_needed is not None
    assert attempts[0].upper < attempts[1].upper < attempts[2].upper
    assert "more than" in final_bound(_drop(0.02, 0.001), 0.01, 1, 64).reason
    with pytest.raises(ValueError, match="attempt"):
        final_bound(drop, 0.01, 0, 64)


@given(
    estimate=st.floats(-0.1, 0.1),
    error=st.floats(0, 0.1),
    allowed=st.floats(0, 0.1),
    kind=st.sampled_from(KINDS),
    comparisons=st.integers(0, 40),
)
def test_rules(
    estimate: float, error: float, allowed: float, kind: ChangeKind, comparisons: int
) -> None:
    verdict = judge(_drop(estimate, error), allowed, kind, comparisons, 64)
    if verdict.upper <= allowed:
        assert verdict.decision == "keep"
        assert not verdict.provisional
    elif estimate > allowed:
        assert verdict.decision == "reject"
    else:
        assert verdict.provisional
        assert verdict.decision == ("reject" if kind == "lossy" else "keep")
