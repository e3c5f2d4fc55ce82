"""The repair ladder: what to try next when int8 cost too much accuracy. Pure.

Bias correction → ranges told in other ways → float where int8 is no faster → the most sensitive
layers float → mixed precision → training. What costs nothing at run time comes first. Every rung
starts from the best attempt of those below, so that one that made it worse is not built upon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from saccade.optimize.quantization.recipe import HEAD_FLOAT, MORE_IMAGES, Estimator, Recipe

FIRST = "first setting"
PAYING = "int8 where it pays"


@dataclass(frozen=True)
class Attempt:
    """A recipe that was judged.

    Attributes:
        recipe: what was tried.
        rung: name of the rung it belongs to, `FIRST` for the first setting.
        drop: of accuracy, on selection data; infinite where the attempt failed.
    """

    recipe: Recipe
    rung: str
    drop: float


@dataclass(frozen=True)
class Situation:
    """What decides which rungs there are.

    Attributes:
        estimators: that the quantizer knows, its default first.
        has_head: the model has a detection head of several layers, which is left float as one.
        images: calibration images that there are.
        why_not_trained: why the weights cannot be trained, None where they can.
        lacking: rungs that the quantizer does not have, by name, with the reason.
    """

    estimators: tuple[Estimator, ...]
    has_head: bool
    images: int
    why_not_trained: str | None
    lacking: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rung:
    """One step of the ladder.

    Attributes:
        name: for people.
        recipes: what to try, starting from the best recipe so far.
        why_not: why it cannot be tried in a situation, None where it can.
    """

    name: str
    recipes: Callable[[Recipe, Situation], Iterator[Recipe]]
    why_not: Callable[[Situation], str | None] = lambda _: None


def _bias(best: Recipe, _: Situation) -> Iterator[Recipe]:
    yield replace(best, bias_correction=True)


def _even(best: Recipe, _: Situation) -> Iterator[Recipe]:
    yield replace(best, equalized=True)


def _ranges(best: Recipe, situation: Situation) -> Iterator[Recipe]:
    for estimator in situation.estimators[1:]:
        yield replace(best, estimator=estimator)
    if situation.images > best.images:
        yield replace(best, images=MORE_IMAGES)


def _paying(best: Recipe, _: Situation) -> Iterator[Recipe]:
    yield replace(best, paying=True)


def _skip(best: Recipe, situation: Situation) -> Iterator[Recipe]:
    if situation.has_head:
        best = replace(best, float_depth=max(best.float_depth, HEAD_FLOAT))
        yield best
    yield replace(best, sensitive="skip")


def _mix(best: Recipe, _: Situation) -> Iterator[Recipe]:
    yield replace(best, sensitive="mixed")


def _train(best: Recipe, _: Situation) -> Iterator[Recipe]:
    """With nothing that training does not do: it moves ranges and biases by itself."""
    # NNCF's quantizers for PyTorch cannot halve weights.
    yield replace(best.whole, images=best.images, trained=True, halved=False)


RUNGS: tuple[Rung, ...] = (
    Rung("bias correction", _bias),
    Rung("equalization", _even),
    Rung("other range estimators", _ranges),
    Rung(PAYING, _paying),
    Rung("most sensitive layers float", _skip),
    Rung("mixed precision", _mix),
    Rung("quantization-aware training", _train, lambda s: s.why_not_trained),
)


def climb(attempts: Sequence[Attempt], situation: Situation) -> Iterator[tuple[str, Recipe]]:
    """What is left to try, in order: names of rungs with recipes.

    It goes up only: what lies below the last attempt's rung is not tried again from another start.
    """
    tried = {attempt.recipe for attempt in attempts}
    names = [rung.name for rung in RUNGS]
    reached = max((names.index(a.rung) for a in attempts if a.rung in names), default=0)
    for index, rung in enumerate(RUNGS):
        if index < reached or _why_not(rung, situation) is not None:
            continue
        below = [a for a in attempts if a.rung not in names[index:]]
        for recipe in rung.recipes(best(below), situation):
            if recipe not in tried:
                yield rung.name, recipe


def closed(situation: Situation) -> Iterator[tuple[str, str]]:
    """Rungs that cannot be tried here, with the reason."""
    for rung in RUNGS:
        reason = _why_not(rung, situation)
        if reason is not None:
            yield rung.name, reason


def _why_not(rung: Rung, situation: Situation) -> str | None:
    return situation.lacking.get(rung.name) or rung.why_not(situation)


def best(attempts: Sequence[Attempt]) -> Recipe:
    """The recipe that cost least accuracy; of equals the first, because later ones cost more."""
    return min(attempts, key=lambda attempt: attempt.drop).recipe
