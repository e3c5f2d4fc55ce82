"""The accuracy guard: keeps a change for the bound of its drop, not for its estimate. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from saccade.goals import Goal
from saccade.statistics import bonferroni_level, labels_needed
from saccade.validate.drop_bound import DropBound

ChangeKind = Literal["exact", "near_lossless", "lossy"]
Decision = Literal["keep", "reject", "undecided"]

LEVEL = 0.95


@dataclass(frozen=True)
class GuardVerdict:
    """What the guard decided about one change.

    Attributes:
        decision: ``keep`` or ``reject``; ``undecided`` for a change that is not lossy where the
            labels cannot bound the drop at all.
        reason: one sentence for a person.
        labels_needed: labelled images in all that would decide, if the estimate stays; None where
            no number would or none are needed.
        provisional: the labels did not decide; the kind of change did.
        upper: one-sided upper bound of the drop at ``level``.
        level: after the correction for multiple comparisons.
    """

    decision: Decision
    reason: str
    labels_needed: int | None
    provisional: bool
    upper: float
    level: float


@dataclass(frozen=True)
class FinalBound:
    """The bound of a final candidate on the report data.

    Attributes:
        attempt: 1 for the first candidate, 2 for the one fallen back to, and so on.
        level: one-sided, what this attempt may spend of the error.
        estimate: of the drop.
        upper: bound of the drop at ``level``.
        allowed: largest drop allowed.
        holds: whether the bound is within what is allowed.
        labels_needed: labelled images in all that would make it hold; None where no number would.
        reason: one sentence for a person.
        likely: the best guess of the drop, see `DropBound.likely`; not below the lower bound.
    """

    attempt: int
    level: float
    estimate: float
    upper: float
    allowed: float
    holds: bool
    labels_needed: int | None
    reason: str
    likely: float


def judge(
    drop: DropBound, allowed: float, kind: ChangeKind, comparisons: int, images: int
) -> GuardVerdict:
    """Decide whether a change may stay.

    Kept if the upper bound of the drop is within what is allowed; rejected if the best guess or
    the lower bound is not. In between the labels do not decide: a change that alters results
    only by rounding is kept provisionally, one that trades accuracy away is rejected.

    The bounds of lossy changes are corrected for their number (Bonferroni), or the luckiest of
    many would pass. That needs the number of them all: judge again when it has grown, or rely on
    `final_bound`, whose error rate does not depend on the search.

    Args:
        drop: of the candidate against the baseline.
        allowed: largest drop allowed.
        kind: ``exact`` (same results), ``near_lossless`` (rounding) or ``lossy``.
        comparisons: lossy candidates judged so far, this one included.
        images: labelled images behind ``drop``.
    """
    level = bonferroni_level(LEVEL, comparisons if kind == "lossy" else 1)
    if not math.isfinite(drop.estimate) or not math.isfinite(drop.standard_error):
        return _unbounded(drop, kind, images, level)
    upper = drop.upper_at(level)
    said = f"drop {drop.estimate:.4f}, at most {upper:.4f} at {level:.1%} on {images} images"
    if upper <= allowed:
        reason = f"{said}: within the {allowed:g} allowed"
        return GuardVerdict("keep", reason, None, False, upper, level)
    said += _by_margins(drop)
    if drop.likely > allowed or drop.lower_at(level) > allowed:
        reason = f"{said}: more than the {allowed:g} allowed"
        return GuardVerdict("reject", reason, None, False, upper, level)
    needed = labels_needed(images, drop.likely, upper, allowed)
    said = f"{said}: these labels cannot bound it by {allowed:g}, {_would_decide(needed)}"
    if kind == "lossy":
        reason = f"{said}; a change that trades accuracy away is not kept on an estimate"
        return GuardVerdict("reject", reason, needed, True, upper, level)
    reason = f"{said}; kept provisionally because it changes results only by rounding"
    if kind == "exact":
        reason = f"{said}; kept provisionally because it is meant to change no result"
    return GuardVerdict("keep", reason, needed, True, upper, level)


def _unbounded(drop: DropBound, kind: ChangeKind, images: int, level: float) -> GuardVerdict:
    """A drop without a bound decides nothing, except that lossy changes need one."""
    reason = _no_bound(images)
    decision: Decision = "reject" if kind == "lossy" else "undecided"
    return GuardVerdict(decision, reason, None, True, drop.upper_at(level), level)


def _no_bound(images: int) -> str:
    return (
        f"{images} labelled images with too few objects cannot bound a drop; "
        "label more images with objects"
    )


def _by_margins(drop: DropBound) -> str:
    """What the margins add where the labels do not decide."""
    if drop.by_margins is None:
        return ""
    return f" ({drop.by_margins:.4f} by the margins of all of them)"


def _would_decide(needed: int | None) -> str:
    return "and no number would" if needed is None else f"about {needed} labelled images would"


def final_bound(drop: DropBound, allowed: float, attempt: int, images: int) -> FinalBound:
    """Bound a final candidate's drop on data that selection has not seen.

    The k-th candidate is judged at level 1 - 0.05 / 2**k, so the chance that any candidate wrongly
    passes stays below 5% in all, however often one falls back (alpha spending: Demets and Lan,
    "Interim Analysis: The Alpha Spending Function Approach", 1994).

    Args:
        drop: of the candidate against the baseline on the report data.
        allowed: largest drop allowed.
        attempt: 1 for the first candidate judged on these data.
        images: labelled images behind ``drop``.

    Raises:
        ValueError: ``attempt`` is below 1.
    """
    level = _level_of(attempt)
    upper = drop.upper_at(level)
    said = f"drop {drop.estimate:.4f}, at most {upper:.4f} at {level:.2%} on {images} images"
    if upper <= allowed:
        reason = f"{said}: bounded by the {allowed:g} allowed"
        return FinalBound(
            attempt, level, drop.estimate, upper, allowed, True, None, reason, drop.likely
        )
    said += _by_margins(drop)
    # No guess talks a bound away.
    likely = max(drop.likely, drop.lower_at(level))
    needed = labels_needed(images, likely, upper, allowed)
    if not math.isfinite(upper):
        reason = _no_bound(images)
    elif likely > allowed:
        reason = f"{said}: more than the {allowed:g} allowed"
    else:
        reason = f"{said}: not bounded by the {allowed:g} allowed, {_would_decide(needed)}"
    return FinalBound(attempt, level, drop.estimate, upper, allowed, False, needed, reason, likely)


def lost_goal(
    goal: Goal, before: DropBound, after: DropBound, attempt: int, images: int
) -> FinalBound | None:
    """An absolute goal, such as ``top1>=0.7``, at which a candidate does worse than the baseline.

    Each is judged by the whole interval of its own figure: met, inconclusive, or not met. In the
    terms of a drop, what is allowed is how far the baseline's figure lies above the goal.

    Args:
        goal: on a figure that is better when higher.
        before: the baseline's figure, see `saccade.validate.drop_bound.figure_itself`.
        after: the candidate's, on the same data.
        attempt: 1 for the first candidate judged on these data.
        images: behind both.

    Returns:
        A bound that does not hold; None where the candidate does as well as the baseline.

    Raises:
        ValueError: ``attempt`` is below 1.
    """
    level = _level_of(attempt)
    order = ("not_met", "inconclusive", "met")
    was, now = (
        order.index(goal.status(f.estimate, f.lower_at(level), f.upper_at(level)))
        for f in (before, after)
    )
    if now >= was:
        return None
    lower = after.lower_at(level)
    estimate, upper = before.estimate - after.estimate, before.estimate - lower
    allowed = before.estimate - goal.bound
    needed = labels_needed(images, estimate, upper, allowed)
    reason = (
        f"{after.estimate:.4f}, at least {lower:.4f} at {level:.2%} on {images} images: "
        f"{goal.name} is {order[now].replace('_', ' ')}, which for the baseline "
        f"({before.estimate:.4f}) is {order[was].replace('_', ' ')}"
    )
    return FinalBound(attempt, level, estimate, upper, allowed, False, needed, reason, estimate)


def _level_of(attempt: int) -> float:
    """One-sided level that the k-th attempt on the same data is judged at."""
    if attempt < 1:
        raise ValueError(f"attempt {attempt} must be at least 1")
    return 1 - (1 - LEVEL) * 0.5**attempt
