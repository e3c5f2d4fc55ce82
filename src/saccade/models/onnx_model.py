"""Describe an ONNX detector: its input, its decode, its preprocessing, and why we think so."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from saccade.errors import ModelError
from saccade.models import graph_reading as graph
from saccade.models.coco_names import COCO_NAMES
from saccade.models.description import Dim, InputSpec, ModelDescription, Preprocessing
from saccade.models.families import FAMILIES, Family, GraphFacts, Match, matches
from saccade.models.onnx_file import read_onnx
from saccade.models.onnx_run import run_once
from saccade.models.overrides import apply_overrides, validated

__all__ = ["describe", "describe_model", "image_input", "read_metadata", "read_onnx"]

# Where neither the input nor the metadata says a size: what the YOLO family is trained at.
_USUAL_SIZE = 640
_DTYPES = ("float32", "float16", "uint8")


@dataclass(frozen=True)
class _Finding:
    """What was found out about one thing, and what it rests on."""

    value: Any
    evidence: str


def describe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> ModelDescription:
    """Find out how to run a detector from its file.

    Args:
        path: an ONNX file.
        overrides: what the user knows better: any of ``input_size``, ``decode``,
            ``channel_order``, ``scale``, ``mean``, ``std``, ``anchor``, ``pad_value``,
            ``class_names``, ``iou_threshold``, ``stride``.

    Raises:
        ModelError: the file cannot be read, is not a detector of a known family, or an override
            is unknown or contradicts the model.
    """
    checked = validated(overrides)
    return describe_model(read_onnx(path, weights=False), checked, name=Path(path).name)


def describe_model(
    model: onnx.ModelProto,
    overrides: Mapping[str, Any] | None = None,
    name: str = "the model",
    families: Sequence[Family] = FAMILIES,
) -> ModelDescription:
    """`describe` for a model that has been read already. It is not changed.

    ``families`` are those it can be one of.
    """
    overrides = validated(overrides)
    metadata = read_metadata(model)
    spec, why_input = image_input(model, name)
    size = _input_size(spec, metadata, overrides)
    names = overrides.get("class_names") or _metadata_names(metadata)
    asked = (names, overrides.get("decode"), tuple(families))
    match, why_decode = _recognize(model, spec, size.value, asked, name)
    labels = _class_names(names, match.class_count, "class_names" in overrides)
    stride = _stride(match, metadata)
    preprocessing = _preprocessing(model, spec, match)
    description = ModelDescription(
        input=spec,
        preprocessing=preprocessing.value,
        decode=match.family.decode,
        input_size=size.value,
        stride=stride.value,
        class_names=labels.value,
        iou_threshold=match.family.iou_threshold,
        evidence=(
            why_input,
            size.evidence,
            *why_decode,
            stride.evidence,
            preprocessing.evidence,
            labels.evidence,
            f"NMS threshold {match.family.iou_threshold}: what {match.family.name}'s authors use.",
        ),
        license=metadata.get("license", ""),
        transposed=match.transposed,
    )
    return apply_overrides(description, overrides)


def read_metadata(model: onnx.ModelProto) -> dict[str, str]:
    """The key-value pairs that the exporter put into the file."""
    return {entry.key: entry.value for entry in model.metadata_props}


def image_input(model: onnx.ModelProto, name: str = "the model") -> tuple[InputSpec, str]:
    """The image input and one sentence on how its layout was recognized.

    Raises:
        ModelError: there is no such input, or there are others beside it.
    """
    inputs = graph.real_inputs(model)
    if len(inputs) != 1:
        listed = ", ".join(repr(value.name) for value in inputs) or "none"
        raise ModelError(
            f"{name} has {len(inputs)} inputs ({listed}); one image input was expected. "
            "Export the bare detector, without extra inputs."
        )
    value = inputs[0]
    shape, dtype = graph.dims(value), graph.dtype_name(value)
    layout, why = _layout(model, value.name, shape)
    if layout is None or dtype not in _DTYPES:
        raise ModelError(
            f"The input {value.name!r} of {name} is {dtype} {_text(shape)}. An image was expected: "
            f"(1, 3, H, W) or (1, H, W, 3), one of {', '.join(_DTYPES)}."
        )
    batch, first, second, third = shape
    spec = InputSpec(value.name, layout, (batch, first, second, third), dtype)
    kind = "dynamic" if spec.dynamic else "fixed"
    return spec, f"Input {value.name!r} is {layout}, {dtype}, {kind} size {_text(shape)}: {why}."


def _layout(model: onnx.ModelProto, name: str, shape: tuple[Dim, ...]) -> tuple[str | None, str]:
    if len(shape) != 4:
        return None, ""
    if shape[1] == 3:
        return "NCHW", "its second axis has 3 channels"
    if shape[3] == 3:
        return "NHWC", "its last axis has 3 channels"
    if shape[1] is None and graph.first_layer_channels(model, name) == 3:
        return "NCHW", "the first convolution reads 3 channels from it"
    return None, ""


def _input_size(
    spec: InputSpec, metadata: Mapping[str, str], overrides: Mapping[str, Any]
) -> _Finding:
    if spec.height is not None and spec.width is not None:
        side = max(spec.height, spec.width)
        return _Finding(side, f"Input size {side}: the input is fixed.")
    if "input_size" in overrides:
        side = overrides["input_size"]
        return _Finding(side, f"Input size {side}: the input is dynamic, and the user chose.")
    stored = _literal(metadata.get("imgsz", ""))
    sides = stored if isinstance(stored, list | tuple) else [stored]
    if sides and all(isinstance(side, int) and side > 0 for side in sides):
        return _Finding(max(sides), f"Input size {max(sides)}: 'imgsz' in the metadata.")
    return _Finding(
        _USUAL_SIZE,
        f"Input size {_USUAL_SIZE}: assumed, since the input is dynamic and no metadata says it.",
    )


def _recognize(
    model: onnx.ModelProto,
    spec: InputSpec,
    size: int,
    asked: tuple[tuple[str, ...] | None, str | None, tuple[Family, ...]],
    name: str,
) -> tuple[Match, tuple[str, ...]]:
    """The family, by the first output's shape, and the sentences that say why.

    ``asked`` are the class names and the decode that are known, and the families in question.
    """
    names, decode, families = asked
    output = model.graph.output[0]
    hw = (spec.height or size, spec.width or size)
    shape = graph.dims(output)
    facts = GraphFacts(
        graph.boxes_raw(model, output.name), {node.op_type for node in model.graph.node}
    )
    count = len(names) if names else None
    found = _readings(shape, hw, facts, count, decode, families)
    # A known number of classes settles the family; without, the number of predictions must.
    open_axes = not shape or (len(shape) == 3 and None in shape[1:])
    if len(found) != 1 and open_axes:
        shape = _output_shape(model, spec, hw)
        found = _readings(shape, hw, facts, count, decode, families)
    if not found or not _extras_allowed(model):
        other = _readings(shape, hw, facts, None, decode, families) if names else []
        raise ModelError(_not_a_detector(model, name, shape, names, other, families))
    why = _why(found[0], output.name, shape, hw, facts, decode)
    return found[0], why + _other_readings(found)


def _readings(
    shape: tuple[Dim, ...],
    hw: tuple[int, int],
    facts: GraphFacts,
    count: int | None,
    decode: str | None,
    families: tuple[Family, ...],
) -> list[Match]:
    if len(shape) != 3:
        return []
    return matches((shape[1], shape[2]), hw, facts, count, decode, families)


def _extras_allowed(model: onnx.ModelProto) -> bool:
    """YOLOv5 exports keep their raw 5-D levels beside the decoded output; nothing else may."""
    return all(len(graph.dims(extra)) == 5 for extra in model.graph.output[1:])


def _output_shape(model: onnx.ModelProto, spec: InputSpec, hw: tuple[int, int]) -> tuple[Dim, ...]:
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
    import numpy as np

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
        f"Decode {family.decode} ({family.name}): output {output!r} is {_text(shape)}, "
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


def _not_a_detector(
    model: onnx.ModelProto,
    name: str,
    shape: tuple[Dim, ...],
    names: tuple[str, ...] | None,
    other: list[Match],
    families: tuple[Family, ...],
) -> str:
    outputs = ", ".join(
        f"{value.name!r} {_text(shape if index == 0 else graph.dims(value))}"
        for index, value in enumerate(model.graph.output)
    )
    if other and names:
        kind = (
            f"; its shape leaves room for {other[0].class_count} classes, "
            f"but {len(names)} class names are given"
        )
    else:
        kind = _kind(read_metadata(model).get("task", ""), shape)
    expected = "; ".join(
        f"{family.name} {family.expected}" for family in families if "," not in family.name
    )
    return (
        f"{name} is not a detector that saccade can decode: its output is {outputs}{kind}. "
        f"Expected, for H x W input, one of: {expected}. "
        "Give a detector exported without NMS, or say which decode fits with overrides: decode."
    )


def _kind(task: str, shape: tuple[Dim, ...]) -> str:
    if task == "segment":
        return ", and its metadata says that it segments instances (task: instance_segmentation)"
    if task and task != "detect":
        return f", and its metadata says its task is {task!r}"
    if len(shape) == 2:
        return ", which looks like a classifier's scores"
    if len(shape) == 4:
        return ", which looks like a map per class (segmentation) or a raw feature map"
    if len(shape) == 3 and shape[2] in (6, 7):
        return ", which looks like finished detections (NMS inside the graph)"
    return ""


def _metadata_names(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    stored = _literal(metadata.get("names", ""))
    if isinstance(stored, dict):
        stored = [stored[key] for key in sorted(stored)]
    if isinstance(stored, list | tuple) and stored:
        return tuple(str(name) for name in stored)
    return None


def _class_names(names: tuple[str, ...] | None, count: int, by_user: bool) -> _Finding:
    if names:
        source = "given by the user" if by_user else "'names' in the metadata"
        return _Finding(names, f"{count} class names: {source}.")
    if count == len(COCO_NAMES):
        return _Finding(COCO_NAMES, "80 class names: assumed to be COCO's, by their number.")
    made_up = tuple(f"class_{index}" for index in range(count))
    return _Finding(made_up, f"{count} class names: made up, since no metadata has them.")


def _stride(match: Match, metadata: Mapping[str, str]) -> _Finding:
    if match.strides:
        stride = match.strides[-1]
        return _Finding(stride, f"Stride {stride}: the coarsest feature map predicted on.")
    stored = _literal(metadata.get("stride", ""))
    if isinstance(stored, int | float) and stored >= 1:
        return _Finding(int(stored), f"Stride {int(stored)}: 'stride' in the metadata.")
    return _Finding(32, "Stride 32: assumed, as usual in the family.")


def _preprocessing(model: onnx.ModelProto, spec: InputSpec, match: Match) -> _Finding:
    usual: Preprocessing = match.family.preprocessing
    source = f"what {match.family.name} is trained with"
    if usual.scale != 1.0 and graph.scaled_in_graph(model, spec.name):
        usual = Preprocessing(usual.channel_order, 1.0, anchor=usual.anchor)
        source += ", except for the scale: the graph itself divides by 255"
    scale = "0-255" if usual.scale == 1.0 else "0-1"
    where = "centred" if usual.anchor == "center" else "top-left"
    return _Finding(
        usual,
        f"Preprocessing {usual.channel_order.upper()}, {scale}, letterbox {where} with "
        f"{usual.pad_value}: {source}.",
    )


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None


def _text(shape: tuple[Dim, ...]) -> str:
    return "(" + ", ".join("?" if size is None else str(size) for size in shape) + ")"
