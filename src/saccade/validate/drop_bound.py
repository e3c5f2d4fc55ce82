"""`DropBound`: how much accuracy a change costs, and how sure that is. Pure.

The bootstrap over images alone is too sure of itself on a few dozen images. Many classes then lie
in one or two of them, so a resample either repeats such a class unchanged or loses it. With 200
samples of 64 drawn from 192 COCO images, and all 192 for the truth, nominal 95% upper bounds of
YOLO11n's mAP50-95 drop held in 81-93% of the cases, depending on the change (input sizes 384 to
576, rectangular input, bf16); basic and BCa intervals were no better than percentiles. The
delete-one jackknife errs on the safe side in expectation (Efron and Stein, "The Jackknife
Estimate of Variance", 1981); with it they held in 92-98%. Each end is therefore the wider of the
bootstrap percentile and Student's t around the estimate with the larger of both standard errors.
For mAP50, whose small samples also understate a drop, this reaches 84-98%: a goal on mAP50-95 is
the safer one.

A sample shows nothing of what happens too rarely to be in it: where both systems say the same, all
of the above is zero, and the drop is not. What n units have not shown happens to a share of at most
1 - (1 - level)^(1/n) of all (the exact binomial bound, about 3/n at 95%: Hanley and Lippman-Hand,
"If Nothing Goes Wrong, Is Everything All Right?", 1983). That is added as an independent error is.
A unit is what goes wrong as one: an image where a figure is a share of images, else a match, such
as an object found. Of a hundred images with any share of accidents up to 30%, a 95% bound then
holds in 93% of the cases at least; with Agresti and Min's half accidents (2005) it was 81%.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.statistics import Interval
from saccade.validate.bootstrap import Replicates
from saccade.validate.margins import likely_drop

LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class DropBound:
    """Baseline minus candidate; positive means that accuracy was lost.

    Attributes:
        estimate: on all images.
        images: images that have something to judge.
        standard_error: of the estimate; infinite where one image decides alone.
        drawn: ``(B,)`` float64, the drop on each resample that has something to judge.
        unit: what one unit weighs, see `saccade.validate.bootstrap.Replicates`.
        by_margins: what is likely by how far every image moved, where the task knows; no bound.
    """

    estimate: float
    images: int
    standard_error: float
    drawn: NDArray[np.float64]
    unit: float = 0.0
    by_margins: float | None = None

    @property
    def likely(self) -> float:
        """The best guess, which decides where no bound does."""
        return self.estimate if self.by_margins is None else self.by_margins

    def upper_at(self, level: float) -> float:
        """One-sided upper bound: the drop is below it with this confidence."""
        if not math.isfinite(self.standard_error):
            return math.inf
        drawn = float(np.quantile(self.drawn, level)) - self.estimate
        return self.estimate + self._reach(drawn, level)

    def lower_at(self, level: float) -> float:
        """One-sided lower bound: the drop is above it with this confidence."""
        if not math.isfinite(self.standard_error):
            return -math.inf
        drawn = self.estimate - float(np.quantile(self.drawn, 1 - level))
        return self.estimate - self._reach(drawn, level)

    def _reach(self, drawn: float, level: float) -> float:
        """How far a bound lies from the estimate: by what was seen, and by what was not."""
        seen = max(drawn, self._t_quantile(level) * self.standard_error)
        return math.hypot(seen, 1 - (1 - level) ** self.unit)

    @property
    def upper(self) -> float:
        """One-sided upper bound at 95%."""
        return self.upper_at(LEVEL)

    @property
    def lower(self) -> float:
        """One-sided lower bound at 95%."""
        return self.lower_at(LEVEL)

    @property
    def interval(self) -> Interval:
        """Two-sided 95% interval."""
        both = (1 + LEVEL) / 2
        return Interval(self.lower_at(both), self.upper_at(both), LEVEL)

    def p_at_most(self, drop: float) -> float:
        """One-sided p-value of the hypothesis that the true drop is at most ``drop``."""
        from scipy.stats import t

        if not math.isfinite(self.standard_error):
            return 1.0
        distance = self.estimate - drop
        if self.standard_error == 0:
            return 0.0 if distance > 0 else 1.0
        return float(t.sf(distance / self.standard_error, self.images - 1))

    def _t_quantile(self, level: float) -> float:
        from scipy.stats import t

        return float(t.ppf(level, self.images - 1))


def paired_drop(base: Replicates, candidate: Replicates) -> DropBound:
    """The drop from ``base`` to ``candidate``, both replicated on the same weights.

    Raises:
        ValueError: the replicates are of different weights or images.
    """
    if base.drawn.shape != candidate.drawn.shape or base.images != candidate.images:
        raise ValueError("both systems must be replicated on the same weights and images")
    drawn = base.drawn - candidate.drawn
    drawn = drawn[np.isfinite(drawn)]
    return DropBound(
        estimate=base.point - candidate.point,
        images=base.images,
        standard_error=_standard_error(drawn, base.left_out - candidate.left_out, base.images),
        drawn=drawn,
        unit=max(base.unit, candidate.unit),
        by_margins=_by_margins(base.margins, candidate.margins),
    )


def _by_margins(
    before: NDArray[np.float64] | None, after: NDArray[np.float64] | None
) -> float | None:
    return None if before is None or after is None else likely_drop(before, after)


def same_system() -> DropBound:
    """The drop of a system against itself: none, whatever the images."""
    return DropBound(0.0, 2, 0.0, np.zeros(1))


def figure_itself(found: Replicates) -> DropBound:
    """The bounds of a figure itself, built as those of a drop: a drop to nothing.

    What a goal such as ``map50_95>=0.4`` is judged by. A drop's bounds around the baseline's
    figure would not do: images that are harder than usual are so for both systems, so that cancels
    in a drop, and is all that there is to doubt in a figure.
    """
    nothing = np.zeros_like(found.drawn), np.zeros_like(found.left_out)
    return paired_drop(found, Replicates(0.0, *nothing, found.images, 0.0))


def kept_share(drop: DropBound) -> DropBound:
    """Bounds of what is left of a figure that is 1 for the baseline by definition: agreement."""
    left = 1 - drop.estimate, drop.images, drop.standard_error, 1 - drop.drawn
    return DropBound(*left, drop.unit)


def interval_of(found: Replicates) -> Interval:
    """Two-sided 95% interval of a figure itself."""
    return figure_itself(found).interval


def _standard_error(
    drawn: NDArray[np.float64], left_out: NDArray[np.float64], images: int
) -> float:
    # Where nothing is left without one image, that image decides alone and its spread is unknown.
    if images < 2 or len(drawn) < 2 or not np.isfinite(left_out).all():
        return math.inf
    groups = len(left_out)
    jackknife = float(left_out.std()) * math.sqrt(groups - 1)
    bootstrap = float(drawn.std(ddof=1)) * math.sqrt(images / (images - 1))
    return max(jackknife, bootstrap)
