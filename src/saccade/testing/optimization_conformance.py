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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from saccade.data.contract import Dataset
from saccade.models.files import model_file
from saccade.optimize.change import (
    Effect,
    ModelCandidate,
    Objective,
    Optimization,
    PlanContext,
    Prediction,
    Tried,
)
from saccade.pipeline.config import PipelineConfig, RuntimeOptions, TrackerOptions
from saccade.runtimes.contract import Availability
from saccade.testing.planted import healthy, planted
from saccade.testing.tiny_finished import tiny_finished_config
from saccade.testing.tiny_instance_segmenter import tiny_instance_segmenter_config
from saccade.testing.tiny_models import tiny_config, write_tiny
from saccade.testing.tiny_segmenter import tiny_segmenter_config
from saccade.testing.tiny_yolo import tiny_yolo_config

Check = Callable[[type[Optimization], PlanContext], None]

FRAME_HW = (36, 64)
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
        if not hasattr(change, "next_rung"):
            continue
        tried: list[Tried] = []
        step = change
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


def example_contexts(
    folder: Path,
    calibration: Dataset | None = None,
    runtimes: Mapping[str, Availability] | None = None,
) -> Iterator[PlanContext]:
    """Common situations: naive, half and fully optimized; video and images; both objectives.

    Args:
        folder: an existing folder; a tiny model and whatever `apply` writes go there.
        calibration: images to quantize with; None where there are none.
        runtimes: what is installed; by default OpenVINO with every precision, for optimizations
            that only look at what is offered.
    """
    offered = runtimes or {
        "onnxruntime": Availability(True, "1", "CPU"),
        "openvino": Availability(True, "1", "CPU", "openvino", ("fp32", "bf16", "int8")),
    }
    naive = PlanContext(
        config=tiny_config(folder),
        profile=planted("compute_bound"),
        objective="throughput",
        cores=2,
        frame_hw=FRAME_HW,
        video=True,
        source="rtsp://camera.invalid/1",  # live, so nobody looks into a file
        runtimes=offered,
        calibration=calibration,
        folder=folder / "models",
        labelled=False,
    )
    overlapped = RuntimeOptions(threads=2, streams=2, in_flight=3, spinning=False)
    halfway = replace(naive.config, runtime="openvino", preprocessor="fused", reader="pyav")
    whole = replace(
        halfway,
        preprocessor="graph",
        resize="planes",
        shape="rect",
        nms="vectorized",
        execution="overlapped",
        options=replace(overlapped, precision="bf16"),
    )
    fixed = tiny_config(folder, (64, 64))
    latency: Objective = "latency"
    yield naive
    yield replace(naive, objective=latency)
    yield replace(naive, video=False, source=str(folder), labelled=True)
    yield replace(naive, config=halfway)
    yield replace(naive, config=whole, profile=healthy())
    yield replace(naive, config=fixed)
    yield replace(naive, config=tiny_yolo_config(folder))
    program = replace(fixed.model, path="model.pt2", format="torch_export")
    # Alone, so that nothing is converted: there is no such file.
    in_torch = {"torch": Availability(True, "1", "CPU", "torch", ("fp32", "bf16"))}
    eager = replace(fixed, model=program, runtime="torch")
    yield replace(naive, config=eager, runtimes=runtimes or in_torch)
    yield replace(naive, config=replace(naive.config, score_threshold=0.001))
    yield replace(naive, config=tiny_finished_config(folder))
    yield replace(naive, config=tiny_instance_segmenter_config(folder))
    segmenter = tiny_segmenter_config(folder)
    yield replace(naive, config=segmenter, video=False, source=str(folder), labelled=True)
    yield replace(naive, config=replace(segmenter, runtime="openvino"), labelled=True)
    yield replace(naive, candidates=(ModelCandidate("fixed", fixed),), labelled=True)
    other = ModelCandidate("free", naive.config)
    yield replace(naive, config=replace(fixed, runtime="openvino"), candidates=(other,))
    tracking = replace(naive.config, task="tracking", tracker=TrackerOptions())
    yield replace(naive, config=tracking, labelled=True)
    yield replace(naive, config=replace(tracking, detect_every=2))
    if find_spec("ai_edge_litert") is not None:  # which writes the file
        in_litert = {"litert": Availability(True, "1", "CPU", "litert", ("fp32", "int8"))}
        program = model_file(write_tiny("tflite", folder, (64, 64)))
        on_phone = replace(fixed, model=program, runtime="litert")
        yield replace(naive, config=on_phone, runtimes=runtimes or in_litert, video=False)
    if find_spec("tensorrt") is not None:
        on_gpu = {"tensorrt": Availability(True, "1", "GPU", "tensorrt", ("fp32", "fp16", "int8"))}
        planned = replace(fixed, runtime="tensorrt")
        yield replace(naive, config=planned, runtimes=runtimes or on_gpu, video=False)
    if find_spec("executorch") is not None:
        both = {**in_torch, "executorch": Availability(True, "1", "CPU", "executorch")}
        program = model_file(write_tiny("torch_export", folder, (64, 64)))
        exported = replace(fixed, model=program, runtime="torch")
        yield replace(naive, config=exported, runtimes=runtimes or both, video=False)
    yield replace(naive, profile=replace(naive.profile, operators=(), roofline=None))
    yield replace(naive, missed=frozenset({"model_mb"}))
    nothing = {name: Availability(False, detail="not installed") for name in offered}
    yield replace(naive, runtimes=nothing)


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
