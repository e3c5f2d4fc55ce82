"""Recognize the YOLO family by the shape of its one output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from saccade.errors import ModelError
from saccade.models import graph_reading as graph
from saccade.models.description import Dim, InputSpec
from saccade.models.families import FAMILIES, Family, GraphFacts, Match, matches
from saccade.models.onnx_run import run_once

# Box and score and label.
_FINISHED_COLUMNS = 6


def find_yolo(
    model: onnx.ModelProto,
    spec: InputSpec,
    hw: tuple[int, int],
    names: Sequence[str] | None,
    decode: str | None,
    families: Sequence[Family] = FAMILIES,
) -> tuple[Match, tuple[str, ...]] | None:
    """The family, by the first output's shape, and the sentences that say why.

    Args:
        model: not changed.
        spec: its image input.
        hw: the input size that the outputs are looked at for.
        names: class names, where they are known.
        decode: the user's word on the decode.
        families: that it can be one of.

    Returns:
        None where the outputs are not those of the family.
    """
    if not _extras_allowed(model):
        return None
    output = model.graph.output[0]
    shape, facts = graph.dims(output), _facts(model)
    count = len(names) if names else None
    found = _readings(shape, hw, facts, count, decode, families)
    # A known number of classes settles the family; without, the number of predictions must. Rows
    # of six may also be finished detections, of any number.
    open_axes = not shape or (len(shape) == 3 and None in shape[1:])
    if open_axes and (len(found) != 1 or shape[-1] == _FINISHED_COLUMNS):
        shape = output_shape(model, spec, hw)
        found = _readings(shape, hw, facts, count, decode, families)
    if not found:
        return None
    why = _why(found[0], output.name, shape, hw, facts, decode)
    return found[0], why + _other_readings(found)


def not_a_detector(
    model: onnx.ModelProto,
    spec: InputSpec,
    hw: tuple[int, int],
    names: Sequence[str] | None,
    name: str,
    expected: Sequence[str],
) -> str:
    """What was found instead of a detector's output, and what was expected.

    Args:
        model: not changed.
        spec: its image input.
        hw: the input size that its output was looked at for.
        names: class names, where they are known.
        name: what to call the model.
        expected: outputs that would do, in words.
    """
    shape = graph.dims(model.graph.output[0])
    if not shape or (len(shape) == 3 and None in shape[1:]):
        shape = output_shape(model, spec, hw)
    outputs = ", ".join(
        f"{value.name!r} {as_text(shape if index == 0 else graph.dims(value))}"
        for index, value in enumerate(model.graph.output)
    )
    other = _readings(shape, hw, _facts(model), None, None) if names else []
    if other and names:
        kind = (
            f"; its shape leaves room for {other[0].class_count} classes, "
            f"but {len(names)} class names are given"
        )
    else:
        kind = _kind(_task(model), shape)
    return (
        f"{name} is not a detector that saccade can decode: its output is {outputs}{kind}. "
        f"Expected, for H x W input, one of: {'; '.join(expected)}. "
        "Export the detector so, or say which decode fits with overrides: decode."
    )


def as_text(shape: tuple[Dim, ...]) -> str:
    """``"(1, 84, ?)"``."""
    return "(" + ", ".join("?" if size is None else str(size) for size in shape) + ")"


def _facts(model: onnx.ModelProto) -> GraphFacts:
    raw = graph.boxes_raw(model, model.graph.output[0].name)
    return GraphFacts(raw, {node.op_type for node in model.graph.node})


def _task(model: onnx.ModelProto) -> str:
    return next((entry.value for entry in model.metadata_props if entry.key == "task"), "")


def _readings(
    shape: tuple[Dim, ...],
    hw: tuple[int, int],
    facts: GraphFacts,
    count: int | None,
    decode: str | None,
    families: Sequence[Family] = FAMILIES,
) -> list[Match]:
    if len(shape) != 3:
        return []
    return matches((shape[1], shape[2]), hw, facts, count, decode, families)


def _extras_allowed(model: onnx.ModelProto) -> bool:
    """YOLOv5 exports keep their raw 5-D levels beside the decoded output; nothing else may."""
    return all(len(graph.dims(extra)) == 5 for extra in model.graph.output[1:])


def output_shape(model: onnx.ModelProto, spec: InputSpec, hw: tuple[int, int]) -> tuple[Dim, ...]:
    """The first output's shape for one image of size ``hw``: inferred, or else observed."""
    sizes = {"N": spec.shape[0] or 1, "C": 3, "H": hw[0], "W": hw[1]}
    shape = [sizes[axis] for axis in spec.layout]
    fixed = graph.with_input_shape(model, spec.name, shape)
    output = model.graph.output[0].name
    inferred = graph.inferred_shapes(fixed).get(output, ())
    if inferred and None not in inferred[1:]:
        return inferred
    return _observed_shape(fixed, spec, shape) or inferred


def _observed_shape(
    model: onnx.ModelProto, spec: InputSpec, shape: list[int]
) -> tuple[Dim, ...] | None:
    try:
        outputs = run_once(model, {spec.name: np.zeros(shape, np.dtype(spec.dtype))})
    except ModelError:  # the caller reports the shape
        return None
    return tuple(outputs[0].shape)


def _why(
    match: Match,
    output: str,
    shape: tuple[Dim, ...],
    hw: tuple[int, int],
    facts: GraphFacts,
    decode: str | None,
) -> tuple[str, ...]:
    family = match.family
    reading = f"{family.lead} + {match.class_count} classes"
    if match.strides:
        cells = "/".join(str(s) for s in match.strides)
        each = f"{family.per_cell} per cell" if family.per_cell > 1 else "one per cell"
        reading += f", and {each} of strides {cells} at {hw[0]}x{hw[1]}"
    boxes = "raw grid offsets" if facts.raw else "already decoded in the graph"
    sentences = [
        f"Decode {family.decode} ({family.name}): output {output!r} is {as_text(shape)}, "
        f"which is {reading}; boxes are {boxes}."
    ]
    if match.transposed:
        sentences.append(f"The output is transposed against {family.name}'s {family.expected}.")
    if decode and not facts.agree_with(family):
        sentences.append(f"The graph does not look like {family.name}; the user's word counts.")
    return tuple(sentences)


def _other_readings(found: list[Match]) -> tuple[str, ...]:
    first = found[0]
    others = {
        f"{match.family.name} with {match.class_count} classes"
        for match in found[1:]
        if (match.family.decode, match.class_count) != (first.family.decode, first.class_count)
    }
    if not others:
        return ()
    return (f"The shape could also be {' or '.join(sorted(others))}; the likelier was taken.",)


def _kind(task: str, shape: tuple[Dim, ...]) -> str:
    if task == "segment":
        return ", and its metadata says that it segments instances (task: instance_segmentation)"
    if task and task != "detect":
        return f", and its metadata says its task is {task!r}"
    if len(shape) == 2:
        return ", which looks like a classifier's scores"
    if len(shape) == 4:
        return ", which looks like a map per class (segmentation) or a raw feature map"
    if len(shape) == 3 and shape[2] == _FINISHED_COLUMNS:
        return ", which may be finished detections, but holds no class ids when it is run"
    return ""
