"""Several small changes as one: what each gains alone, this machine could not tell from noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from saccade.errors import SaccadeError, StorageError
from saccade.optimize.change import Effect, Optimization, Ordinary, PlanContext, Prediction
from saccade.optimize.guarded import considered, unforeseen
from saccade.optimize.plan import MIN_GAIN, Candidate, variants
from saccade.pipeline.config import PipelineConfig


@dataclass(frozen=True)
class Combined(Ordinary):
    """Changes applied one after the other and judged together. None of them is lossy."""

    name: ClassVar[str] = "combined"

    parts: tuple[Optimization, ...] = ()

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """None of itself; `combine` makes them."""
        return ()

    @property
    def effect(self) -> Effect:
        """That of the part that does most."""
        exact = all(part.effect == "exact" for part in self.parts)
        return "exact" if exact else "near_lossless"

    @property
    def label(self) -> str:
        """The parts' labels."""
        return " + ".join(part.label for part in self.parts)

    def applies(self, context: PlanContext) -> str | None:
        """Each must apply once those before it were applied."""
        for part in self.parts:
            reason = part.applies(context)
            if reason is not None:
                return f"{part.label}: {reason}"
            context = replace(context, config=part.apply(context))
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """The product of the parts' predictions."""
        found = [part.predict(context) for part in self.parts]
        return Prediction(
            math.prod(p.gain for p in found),
            math.prod(p.bound for p in found),
            "together, each too small to be told from noise alone",
            sum(p.cost_s for p in found),
        )

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Apply them in order."""
        for part in self.parts:
            context = replace(context, config=part.apply(context))
        return context.config


def combine(context: PlanContext, small: float) -> Candidate | None:
    """All lossless changes that promise less than ``small``, as one; None for fewer than two.

    One change may make another applicable, so they are collected until nothing is added. One that
    cannot be made is left out; its own trial, if it gets one, says why.
    """
    parts: list[Optimization] = []
    current, left_out = context, set[str]()
    while True:
        added = next(_addable(current, small, left_out, parts), None)
        if added is None:
            break
        try:
            with unforeseen():
                changed = added.apply(current)
        except StorageError:
            raise
        except SaccadeError:
            left_out.add(added.label)
            continue
        parts.append(added)
        current = replace(current, config=changed)
    if len(parts) < 2:
        return None
    together = Combined(tuple(parts))
    return Candidate(together, together.predict(context))


def _addable(
    context: PlanContext, small: float, left_out: Set[str], parts: list[Optimization]
) -> Iterator[Optimization]:
    for change in variants(context):
        # Two variants of one change would only undo each other.
        used = any(part.name == change.name for part in parts)
        if used or change.label in left_out or change.effect == "lossy":
            continue
        prediction = considered(change, context)
        if isinstance(prediction, str):
            continue
        if prediction.bound >= MIN_GAIN and 1 < prediction.gain < small and not prediction.cost_s:
            yield change
