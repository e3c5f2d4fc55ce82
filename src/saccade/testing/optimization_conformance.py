"""What every optimization must do, as checks that need no test framework.

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_optimization(check, tmp_path):
        for context in example_contexts(tmp_path):
            check(MyOptimization, context)

Each check takes the optimization's class and a context, and raises an ``AssertionError`` that
says which rule of `saccade.optimize.change` was broken. `example_contexts` covers the common
situations; a plug-in that needs others makes its own with `dataclasses.replace`.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

from saccade.optimize.change import (
    Effect,
    Optimization,
    PlanContext,
    Prediction,
    Tried,
)
from saccade.pipeline.config import PipelineConfig
from saccade.testing.example_contexts import example_contexts

__all__ = ["CHECKS", "Check", "example_contexts"]

Check = Callable[[type[Optimization], PlanContext], None]

SLACK = 1e-9
MOST_RUNGS = 40


def is_a_frozen_dataclass(kind: type[Optimization], context: PlanContext) -> None:
    """An optimization is a value: its parameters, and nothing that could change."""
    _expect(dataclasses.is_dataclass(kind), f"{kind.__name__} is no dataclass")
    params = kind.__dataclass_params__  # type: ignore[attr-defined]
    _expect(params.frozen, f"{kind.__name__} is not frozen")
    _expect(bool(kind.name), f"{kind.__name__} has no name")
    for change in kind.variants(context):
        _expect(change == replace(change), f"{change!r} is not equal to its copy")  # type: ignore[type-var]
        _expect(hash(change) == hash(replace(change)), f"{change!r} has no stable hash")  # type: ignore[type-var]
        _expect(change.effect in get_args(Effect), f"unknown effect {change.effect!r}")


def labels_are_unique(kind: type[Optimization], context: PlanContext) -> None:
    """Labels tell the variants apart, and say which optimization they are of."""
    labels = [change.label for change in kind.variants(context)]
    _expect(len(set(labels)) == len(labels), f"labels are not unique: {labels}")
    for label in labels:
        _expect(label.startswith(kind.name), f"the label '{label}' does not begin with the name")


def applies_gives_none_or_a_reason(kind: type[Optimization], context: PlanContext) -> None:
    """`applies` answers None or a clause for people, the same one when asked again."""
    for change in kind.variants(context):
        reason = change.applies(context)
        _expect(reason is None or (isinstance(reason, str) and bool(reason)), f"got {reason!r}")
        _expect(change.applies(context) == reason, "asked again, applies() answers differently")


def predictions_are_bounded(kind: type[Optimization], context: PlanContext) -> None:
    """What is expected does not exceed what is possible, and both are numbers."""
    for change in _applying(kind, context):
        found = change.predict(context)
        _expect(isinstance(found, Prediction), f"predict() returned {found!r}")
        numbers = (found.gain, found.bound, found.cost_s)
        _expect(all(map(math.isfinite, numbers)), f"{change.label}: not finite: {found}")
        _expect(found.gain > 0, f"{change.label}: a gain of {found.gain}")
        _expect(found.gain <= found.bound + SLACK, f"{change.label}: gain above bound: {found}")
        _expect(found.cost_s >= 0, f"{change.label}: costs {found.cost_s} s")
        _expect(bool(found.basis), f"{change.label}: does not say what the prediction rests on")


def ladders_end(kind: type[Optimization], context: PlanContext) -> None:
    """Where there is more to try after a failure, it is named, and comes to an end."""
    for change in _applying(kind, context):
        if not change.rung:
            continue
        tried: list[Tried] = []
        step: Optimization | None = change
        while step is not None:
            _expect(bool(step.rung), f"{step!r} is on no rung")
            _expect(step not in [t.change for t in tried], f"{step!r} is tried twice")
            _expect(len(tried) < MOST_RUNGS, f"{change.label}: a ladder without an end")
            tried.append(Tried(step, math.inf))
            step = step.next_rung(tried, context)
        for rung, reason in change.closed_rungs(context):
            _expect(bool(rung and reason), f"{change.label}: a rung closed without a reason")


def apply_changes_the_configuration(kind: type[Optimization], context: PlanContext) -> None:
    """`apply` gives another configuration, the same one each time, that survives its document."""
    for change in _applying(kind, context):
        after = change.apply(context)
        _expect(isinstance(after, PipelineConfig), f"{change.label}: apply() gave {after!r}")
        _expect(after.hash != context.config.hash, f"{change.label}: nothing changed")
        _expect(change.apply(context).hash == after.hash, f"{change.label}: two results")
        again = PipelineConfig.from_dict(after.to_dict())
        _expect(again == after, f"{change.label}: the new configuration cannot be written down")


def applied_once_is_enough(kind: type[Optimization], context: PlanContext) -> None:
    """Where a change has been made, the same change is not offered again."""
    for change in _applying(kind, context):
        after = replace(context, config=change.apply(context))
        offered = [other.label for other in _applying(kind, after)]
        _expect(change.label not in offered, f"'{change.label}' is offered again after itself")


def contexts_are_left_alone(kind: type[Optimization], context: PlanContext) -> None:
    """Nothing an optimization is asked changes what it was asked about."""
    before = copy.deepcopy(_comparable(context))
    for change in kind.variants(context):
        if change.applies(context) is None:
            change.predict(context)
            change.apply(context)
    _expect(_comparable(context) == before, f"{kind.__name__} changed the context")


CHECKS: tuple[Check, ...] = (
    is_a_frozen_dataclass,
    labels_are_unique,
    applies_gives_none_or_a_reason,
    ladders_end,
    predictions_are_bounded,
    apply_changes_the_configuration,
    applied_once_is_enough,
    contexts_are_left_alone,
)


def _applying(kind: type[Optimization], context: PlanContext) -> list[Any]:
    return [change for change in kind.variants(context) if change.applies(context) is None]


def _comparable(context: PlanContext) -> dict[str, Any]:
    """The context as something that `==` can judge; arrays cannot be compared that way."""
    fields = {f.name: getattr(context, f.name) for f in dataclasses.fields(context)}
    images = fields.pop("calibration")
    return {**fields, "calibration": images and (images.digest, len(images))}


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
