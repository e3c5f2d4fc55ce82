"""Rank the changes that could be made by predicted gain over cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from saccade import plugins
from saccade.optimize.change import Optimization, PlanContext, Prediction
from saccade.optimize.guarded import considered

MODEL_SWAP, DISTILL = "model_swap", "distill"
# After these changes the model is another, and what was learnt of the old one no longer holds.
OTHER_MODEL = (MODEL_SWAP, DISTILL)
# A change that promises less than this is not worth a trial.
MIN_GAIN = 1.01
# Seconds that any trial takes for starting processes and racing.
TRIAL_S = 9.0
# What a change takes that writes a file, with the repairs that it may need.
MADE_S = 60.0


@dataclass(frozen=True)
class Candidate:
    """A change that applies, with what it promises.

    Attributes:
        missed: metrics of size whose goals are missed, which it may shrink.
    """

    change: Optimization
    prediction: Prediction
    missed: frozenset[str] = frozenset()

    @property
    def worth(self) -> float:
        """How many times better it makes what counts: speed, or a size whose goal is missed."""
        return max(self.prediction.gain, 1 / smallest(self.prediction, self.missed))

    @property
    def needed(self) -> bool:
        """Whether it shrinks what a missed goal of size is about."""
        return smallest(self.prediction, self.missed) < 1

    @property
    def score(self) -> float:
        """Expected gain per second of trial, weighed by the chance that it may stay."""
        expected = (self.worth - 1) * self.prediction.odds
        return expected / (TRIAL_S + self.prediction.cost_s)


@dataclass(frozen=True)
class Plan:
    """Candidates, best first, and what does not apply, with the reason."""

    candidates: tuple[Candidate, ...]
    inapplicable: tuple[tuple[str, str], ...]

    def document(self) -> dict[str, Any]:
        """JSON-ready content of ``plan.json``."""
        return {
            "changes": [
                {
                    "change": c.change.label,
                    "optimization": c.change.name,
                    "effect": c.change.effect,
                    "predicted_gain": c.prediction.gain,
                    "upper_bound": c.prediction.bound,
                    "basis": c.prediction.basis,
                    "cost_s": c.prediction.cost_s + TRIAL_S,
                }
                for c in self.candidates
            ],
            "inapplicable": [
                {"change": label, "reason": reason} for label, reason in self.inapplicable
            ],
        }


def make_plan(context: PlanContext, time_left_s: float = math.inf) -> Plan:
    """Every variant of every optimization that applies.

    Those that cost no accuracy come first, each group by predicted gain over cost. In a hurry all
    that is quick comes by that alone, and what writes files last.

    A change whose gain has an upper bound below `MIN_GAIN` is listed with that as its reason.
    """
    candidates: list[Candidate] = []
    inapplicable: list[tuple[str, str]] = []
    for change in variants(context):
        prediction = considered(change, context)
        if isinstance(prediction, str):
            inapplicable.append((change.label, prediction))
            continue
        if smallest(prediction, context.missed) < 1:
            candidates.append(Candidate(change, prediction, context.missed))
            continue
        if prediction.bound < MIN_GAIN:
            reason = f"at most {prediction.bound:.3f}x ({prediction.basis})"
            inapplicable.append((change.label, reason))
            continue
        if prediction.gain < 1:
            reason = f"expected to be slower: {prediction.gain:.2f}x ({prediction.basis})"
            inapplicable.append((change.label, reason))
            continue
        candidates.append(Candidate(change, prediction))
    candidates.sort(key=_order(candidates, in_a_hurry(time_left_s)))
    return Plan(tuple(candidates), tuple(inapplicable))


def _order(
    candidates: Sequence[Candidate], hurried: bool
) -> Callable[[Candidate], tuple[int, bool, float]]:
    """What costs no accuracy comes first, then what a missed goal of size needs, then by score.

    Later trials then start from a faster system, and what only labels can allow is not needed
    where the goals are met without it. Another model comes before whatever writes new files of
    this one (int8), so that the race is between equals.

    A file that is made for the runtime in use, at some cost, is made when the quick changes that
    promise more are done: after another runtime it would have to be made anew. In a hurry it comes
    last, unless a goal of size needs it, and what is quick is not put off for being lossy.
    """
    swaps = any(is_swap(candidate.change) for candidate in candidates)
    quick = max((c.score for c in candidates if _is_quick(c)), default=0.0)

    def order(candidate: Candidate) -> tuple[int, bool, float]:
        # Speed has no end, and a goal of size that is missed is a goal.
        needed = candidate.needed and (not candidate.prediction.cost_s or candidate.score > quick)
        if is_swap(candidate.change):
            return 1, not needed, -candidate.score
        if hurried and not candidate.prediction.cost_s:
            return 0, not needed, -candidate.score
        if candidate.change.effect == "lossy":
            return 3, not needed, -candidate.score
        if hurried and candidate.prediction.cost_s and not candidate.needed:
            return 4, True, -candidate.score
        group = 2 if swaps and candidate.prediction.cost_s else 0
        return group, not needed, -candidate.score

    return order


def in_a_hurry(time_left_s: float) -> bool:
    """Whether a change that writes a file could no longer be made and repaired."""
    return time_left_s < MADE_S


def _is_quick(candidate: Candidate) -> bool:
    return not candidate.prediction.cost_s and candidate.change.effect != "lossy"


def is_swap(change: Optimization) -> bool:
    """Whether a change puts another model in the model's place."""
    return change.name == MODEL_SWAP


def smallest(prediction: Prediction, missed: frozenset[str]) -> float:
    """The ratio by which it shrinks what is too large; 1 where it shrinks nothing of that."""
    return min((prediction.shrinks.get(name, 1.0) for name in missed), default=1.0)


def variants(context: PlanContext) -> Iterator[Optimization]:
    """Every variant of every optimization in the table."""
    for name in plugins.names("optimizations"):
        yield from plugins.load("optimizations", name).variants(context)
