"""Describe an ONNX detector: its input, its decode, its preprocessing, and why we think so."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from saccade.errors import ModelError
from saccade.models import graph_reading as graph
from saccade.models.box_heads import EXPECTED, BoxHead, find_box_head, suppresses
from saccade.models.coco_names import COCO_CATEGORIES, COCO_NAMES
from saccade.models.description import Dim, InputSpec, ModelDescription, Preprocessing
from saccade.models.families import BOX_DECODES, FAMILIES, FINAL_DECODES, Family, Match
from saccade.models.onnx_file import read_onnx
from saccade.models.overrides import apply_overrides, validated
from saccade.models.yolo_heads import as_text, find_yolo, not_a_detector

__all__ = ["describe", "describe_model", "image_input", "read_metadata", "read_onnx"]

# Where neither the input nor the metadata says a size: what the YOLO family is trained at.
_USUAL_SIZE = 640
_STRIDES = (32, 16, 8, 4, 2, 1)
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
            ``class_names``, ``iou_threshold``, ``stride``, or of what boxes and scores mean,
            see `saccade.models.overrides.OUTPUT_SETTINGS`.

    Raises:
        ModelError: the file cannot be read, is no detector of a known family, or an override
            is unknown or contradicts the model.
    """
    checked = validated(overrides)
    model = read_onnx(path, weights=False)
    return describe_model(model, checked, Path(path).name, lambda: read_onnx(path))


def describe_model(
    model: onnx.ModelProto,
    overrides: Mapping[str, Any] | None = None,
    name: str = "the model",
    whole: Callable[[], onnx.ModelProto] | None = None,
    families: Sequence[Family] = FAMILIES,
) -> ModelDescription:
    """`describe` for a model that has been read already. It is not changed.

    ``whole`` gives the same model with all its weights, where ``model`` was read without.
    ``families`` are those of the YOLO family that it can be one of; only among all of them are
    other heads looked for.
    """
    overrides = validated(overrides)
    metadata = read_metadata(model)
    spec, why_input = image_input(model, name)
    size = _input_size(spec, metadata, overrides)
    names = overrides.get("class_names") or stored_names(metadata)
    match, why_decode = _recognize(
        model, whole or (lambda: model), spec, size.value, (names, families), overrides, name
    )
    labels = _class_names(names, match, "class_names" in overrides)
    stride = _stride(match, metadata, spec)
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
            *_iou_evidence(match),
        ),
        license=metadata.get("license", ""),
        transposed=match.transposed,
        input_hw=_input_hw(spec, {**asdict(preprocessing.value), **overrides}["fit"]),
        outputs=match.outputs,
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
            f"The input {value.name!r} of {name} is {dtype} {as_text(shape)}. An image was "
            f"expected: (1, 3, H, W) or (1, H, W, 3), one of {', '.join(_DTYPES)}."
        )
    batch, first, second, third = shape
    spec = InputSpec(value.name, layout, (batch, first, second, third), dtype)
    kind = "dynamic" if spec.dynamic else "fixed"
    return spec, f"Input {value.name!r} is {layout}, {dtype}, {kind} size {as_text(shape)}: {why}."


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
    whole: Callable[[], onnx.ModelProto],
    spec: InputSpec,
    size: int,
    asked: tuple[tuple[str, ...] | None, Sequence[Family]],
    overrides: Mapping[str, Any],
    name: str,
) -> tuple[Match, tuple[str, ...]]:
    """A reading of the outputs, and the sentences that say why.

    ``asked`` are the class names that are known, and the families in question.
    """
    names, families = asked
    decode = overrides.get("decode")
    hw = (spec.height or size, spec.width or size)
    misnamed = None
    if decode not in BOX_DECODES and (decode or not suppresses(model)):
        yolo = find_yolo(model, spec, hw, names, decode, families)
        if yolo is not None:
            return yolo
        # With another number of classes it would be of the family: then the names are wrong.
        misnamed = names and find_yolo(model, spec, hw, None, decode, families)
    if families is FAMILIES and not misnamed and (decode is None or decode in BOX_DECODES):
        head = find_box_head(whole(), spec, hw, len(names) if names else None, overrides)
        if head is not None:
            return _match_of(head, names, name), head.evidence
    raise ModelError(not_a_detector(model, spec, hw, names, name, _expected(families)))


def _expected(families: Sequence[Family]) -> tuple[str, ...]:
    """What would do, in words."""
    yolo = [f"{f.name} {f.expected}" for f in families if "," not in f.name]
    return (*yolo, EXPECTED) if families is FAMILIES else tuple(yolo)


def _match_of(head: BoxHead, names: tuple[str, ...] | None, name: str) -> Match:
    count = head.class_count
    if names and count is not None and count != len(names):
        raise ModelError(
            f"The outputs of {name} leave room for {count} classes, but {len(names)} class names "
            "are given. Give one name per class, without the background."
        )
    return Match(head.family, len(names) if names else count or 0, None, False, head.outputs)


def stored_names(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """Class names from a model's metadata, where they are a list, or a dictionary by class id."""
    stored = _literal(metadata.get("names", ""))
    if isinstance(stored, dict):
        stored = [stored[key] for key in sorted(stored)]
    if isinstance(stored, list | tuple) and stored:
        return tuple(str(name) for name in stored)
    return None


def _class_names(names: tuple[str, ...] | None, match: Match, by_user: bool) -> _Finding:
    count = match.class_count
    if not count:
        return _Finding(COCO_NAMES, "80 class names: COCO's, assumed, since nothing tells them.")
    if names:
        source = "given by the user" if by_user else "'names' in the metadata"
        return _Finding(names, f"{count} class names: {source}.")
    if count == len(COCO_NAMES):
        return _Finding(COCO_NAMES, "80 class names: assumed to be COCO's, by their number.")
    if count == len(COCO_CATEGORIES):
        return _Finding(COCO_CATEGORIES, "90 class names: assumed to be COCO's category ids.")
    if count == len(COCO_CATEGORIES) + 1:
        return _Finding(("unused 0", *COCO_CATEGORIES), "91 class names: COCO's ids, from 0.")
    made_up = tuple(f"class_{index}" for index in range(count))
    return _Finding(made_up, f"{count} class names: made up, since no metadata has them.")


def _iou_evidence(match: Match) -> tuple[str, ...]:
    family = match.family
    if family.decode in FINAL_DECODES:
        return ()
    return (f"NMS threshold {family.iou_threshold}: usual for {family.name}.",)


def _input_hw(spec: InputSpec, fit: str) -> tuple[int, int] | None:
    """The sides of an input that frames are stretched to, where they are not equal."""
    if spec.height is None or spec.width is None or fit == "letterbox":
        return None
    return None if spec.height == spec.width else (spec.height, spec.width)


def _stride(match: Match, metadata: Mapping[str, str], spec: InputSpec) -> _Finding:
    if match.strides:
        stride = match.strides[-1]
        return _Finding(stride, f"Stride {stride}: the coarsest feature map predicted on.")
    stored = _literal(metadata.get("stride", ""))
    if isinstance(stored, int | float) and stored >= 1:
        return _Finding(int(stored), f"Stride {int(stored)}: 'stride' in the metadata.")
    sides = [side for side in (spec.height, spec.width) if side]
    stride = next(s for s in _STRIDES if not any(side % s for side in sides))
    return _Finding(stride, f"Stride {stride}: assumed, as usual in the family.")


def _preprocessing(model: onnx.ModelProto, spec: InputSpec, match: Match) -> _Finding:
    usual: Preprocessing = match.family.preprocessing
    source = f"what {match.family.name} is trained with"
    if usual.scale != 1.0 and graph.scaled_in_graph(model, spec.name):
        usual = replace(usual, scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
        source += ", except for the scale: the graph itself divides by 255"
    scale = "0-255" if usual.scale == 1.0 else "0-1"
    where = "centred" if usual.anchor == "center" else "top-left"
    lies = f"letterbox {where} with {usual.pad_value}"
    if usual.fit == "stretch":
        lies = "stretched to the input whatever the aspect"
    normalized = ", normalized with ImageNet's mean and std" if any(usual.mean) else ""
    return _Finding(
        usual,
        f"Preprocessing {usual.channel_order.upper()}, {scale}{normalized}, {lies}: {source}.",
    )


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
