"""Which classes a change breaks, although the mean over classes may hide it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from saccade.statistics import Interval, holm
from saccade.validate.bootstrap import MapBootstrap
from saccade.validate.contract import Scored
from saccade.validate.drop_bound import DropBound, paired_drop

ALPHA = 0.05
LEAST_DROP = 0.05


@dataclass(frozen=True)
class ClassDrop:
    """How one class changed.

    Attributes:
        class_id: the class.
        name: its name, or its id as text.
        base: what the baseline scored: AP50-95, IoU or top-1, by the task.
        candidate: what the candidate scored.
        interval: two-sided 95% of the drop, for this class on its own.
        images: images with an object of this class; with one, the interval is infinite.
        p_value: that the drop is no worse than tolerable, corrected for all classes (Holm).
        at_least: lower bound of the drop after that correction.
        broken: whether that bound exceeds what is tolerable.
    """

    class_id: int
    name: str
    base: float
    candidate: float
    interval: Interval
    images: int
    p_value: float
    at_least: float
    broken: bool

    @property
    def message(self) -> str:
        """One sentence for a person."""
        change = f"{self.base:.2f}→{self.candidate:.2f}"
        if self.broken:
            return f"class {self.name} is broken: {change} (at least {self.at_least:.2f} lower)"
        return f"class {self.name}: {change}"


def per_class_drops(
    base: Scored | MapBootstrap,
    candidate: Scored | MapBootstrap,
    allowed: float,
    class_names: Sequence[str] = (),
) -> tuple[ClassDrop, ...]:
    """The drop of every class, those that are certainly broken flagged; largest drop first.

    A class is broken if its drop exceeds ``max(0.05, allowed)`` after Holm's correction for the
    number of classes. The p-value is never below 0.5 to the number of images that have the
    class (a sign test's smallest), so that two or three images which happen to agree perfectly
    prove nothing.

    Args:
        base: of the baseline.
        candidate: on the same weights.
        allowed: drop allowed in the mean over classes.
        class_names: by class id, for messages.

    Raises:
        ValueError: the systems were judged on different classes or weights.
    """
    if base.per_class.keys() != candidate.per_class.keys():
        raise ValueError("both systems must be judged on the same images")
    tolerable = max(LEAST_DROP, allowed)
    bounds = {c: paired_drop(base.per_class[c], candidate.per_class[c]) for c in base.per_class}
    own = {c: max(b.p_at_most(tolerable), 0.5**b.images) for c, b in bounds.items()}
    adjusted = dict(zip(own, holm(own.values()).tolist(), strict=True))
    levels = _step_levels(own)

    def row(class_id: int, bound: DropBound) -> ClassDrop:
        at_least = bound.lower_at(levels[class_id])
        return ClassDrop(
            class_id=class_id,
            name=class_names[class_id] if class_id < len(class_names) else str(class_id),
            base=base.per_class[class_id].point,
            candidate=candidate.per_class[class_id].point,
            interval=bound.interval,
            images=bound.images,
            p_value=adjusted[class_id],
            at_least=at_least,
            broken=adjusted[class_id] < ALPHA and at_least > tolerable,
        )

    rows = [row(class_id, bound) for class_id, bound in bounds.items()]
    return tuple(sorted(rows, key=lambda drop: drop.candidate - drop.base))


def _step_levels(p_values: Mapping[int, float]) -> dict[int, float]:
    """Confidence level at which Holm's procedure looks at each class."""
    classes = list(p_values)
    order = np.argsort([p_values[c] for c in classes], kind="stable")
    return {classes[k]: 1 - ALPHA / (len(classes) - rank) for rank, k in enumerate(order)}
