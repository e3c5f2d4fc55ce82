"""What every way of sharing must do, as checks that need no test framework.

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_sharing(check, tmp_path):
        for context in example_contexts(tmp_path):
            check(MySharing, context)

Each check raises an ``AssertionError`` that says which rule of `saccade.optimize.sharing.contract`
was broken.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from saccade.models.description import Preprocessing
from saccade.optimize.change import Effect, PlanContext
from saccade.optimize.sharing.contract import SharingChange, SharingContext
from saccade.optimize.sharing.cost import SystemCost
from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.system import Sharing, SystemConfig
from saccade.runtimes.contract import Availability
from saccade.testing.planted import planted
from saccade.testing.tiny_segmenter import HW, tiny_segmenter_config
from saccade.testing.tiny_yolo import tiny_yolo_config

Check = Callable[[type[SharingChange], SharingContext], None]
SLACK = 1e-9


def tiny_parts(folder: Path) -> tuple[PipelineConfig, PipelineConfig]:
    """A detector and a segmenter that stretch a frame to the same input, each in its colours."""
    detector, segmenter = tiny_yolo_config(folder), tiny_segmenter_config(folder)
    stretched = replace(
        detector.description, preprocessing=Preprocessing(fit="stretch"), input_hw=HW
    )
    pre = Preprocessing("bgr", 1.0, (110.0, 100.0, 90.0), (60.0, 50.0, 70.0), fit="stretch")
    coloured = replace(segmenter.description, preprocessing=pre)
    return (
        replace(detector, description=stretched, shape="square", score_threshold=0.3),
        replace(segmenter, description=coloured),
    )


def tiny_context(
    parts: tuple[PipelineConfig, PipelineConfig], folder: Path, source: str
) -> SharingContext:
    """Both pipelines on a source whose frames take long to decode, nothing shared yet."""
    runtimes = {name: Availability(True, "1", "CPU") for name in ("onnxruntime", "openvino")}
    first, second = (
        PlanContext(
            config=part,
            profile=planted("decode_bound"),
            objective="latency",
            cores=2,
            frame_hw=(96, 128),
            video=True,
            source=source,
            runtimes=runtimes,
            calibration=None,
            folder=folder / "models",
            labelled=False,
        )
        for part in parts
    )
    cost = SystemCost((first.cost, second.cost))
    return SharingContext(SystemConfig(parts), (first, second), parts, cost)


def example_contexts(folder: Path, source: str) -> Iterator[SharingContext]:
    """Nothing shared, frames decoded once, scaled once, and two inputs of other geometry."""
    context = tiny_context(tiny_parts(folder), folder, source)
    yield context
    for sharing in (Sharing(decode=True), Sharing(decode=True, preprocess=True)):
        parts = tuple(replace(part, preprocessor="fused") for part in context.config.parts)
        yield replace(context, config=SystemConfig((parts[0], parts[1]), sharing))
    first, second = context.config.parts
    letterboxed = replace(second.description, preprocessing=Preprocessing())
    second = replace(second, description=letterboxed, input_size=96, shape="square")
    yield replace(context, config=SystemConfig((first, second), Sharing(decode=True)))


def is_a_frozen_dataclass(kind: type[SharingChange], context: SharingContext) -> None:
    """A way of sharing is a value: its parameters, and nothing that could change."""
    _expect(dataclasses.is_dataclass(kind), f"{kind.__name__} is no dataclass")
    _expect(kind.__dataclass_params__.frozen, f"{kind.__name__} is not frozen")  # type: ignore[attr-defined]
    for change in kind.variants(context):
        _expect(hash(change) == hash(replace(change)), f"{change!r} has no stable hash")  # type: ignore[type-var]
        _expect(change.effect in get_args(Effect), f"unknown effect {change.effect!r}")


def has_labels_of_its_own(kind: type[SharingChange], context: SharingContext) -> None:
    """Labels tell variants apart, and begin with the name."""
    labels = [change.label for change in kind.variants(context)]
    _expect(len(set(labels)) == len(labels), f"labels are not unique: {labels}")
    _expect(all(label.startswith(kind.name) for label in labels), f"{labels} lack the name")


def says_why_not(kind: type[SharingChange], context: SharingContext) -> None:
    """A reason is a clause that can stand in a sentence."""
    for change in kind.variants(context):
        reason = change.applies(context)
        _expect(reason is None or bool(reason.strip()), f"{change.label} gives an empty reason")
        _expect(reason is None or not reason.endswith("."), f"'{reason}' is a sentence")


def predicts_within_its_bound(kind: type[SharingChange], context: SharingContext) -> None:
    """A prediction is positive, bounded, and says what it rests on."""
    for change in _applicable(kind, context):
        found = change.predict(context)
        _expect(found.gain > 0, f"{change.label} predicts {found.gain}")
        _expect(found.bound >= found.gain - SLACK, f"{change.label} exceeds its bound")
        _expect(bool(found.basis), f"{change.label} rests on nothing")
        _expect(0 < found.odds <= 1, f"{change.label} has odds {found.odds}")


def makes_another_system(kind: type[SharingChange], context: SharingContext) -> None:
    """Applying gives another system of the same tasks, and leaves the context as it is."""
    before = context.config.hash
    for change in _applicable(kind, context):
        after = change.apply(context)
        _expect(context.config.hash == before, f"{change.label} changed the context")
        _expect(after.hash != before, f"{change.label} changed nothing")
        _expect(after.tasks == context.tasks, f"{change.label} changed the tasks")
        again = SystemConfig.from_dict(json.loads(json.dumps(after.to_dict())))
        _expect(again == after, f"what {change.label} made does not survive JSON")
        _expect(
            change.applies(replace(context, config=after)) is not None,
            f"{change.label} applies again to what it made",
        )


CHECKS: tuple[Check, ...] = (
    is_a_frozen_dataclass,
    has_labels_of_its_own,
    says_why_not,
    predicts_within_its_bound,
    makes_another_system,
)


def _applicable(kind: type[SharingChange], context: SharingContext) -> list[SharingChange]:
    found: list[Any] = [c for c in kind.variants(context) if c.applies(context) is None]
    return found


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)
