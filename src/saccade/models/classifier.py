"""Describe an ONNX classifier: its input, its classes, whether it gives logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from saccade.errors import ModelError
from saccade.models import graph_reading as graph
from saccade.models.description import ModelDescription
from saccade.models.image_model import IMAGENET, described, read_image_model
from saccade.models.overrides import validated

USUAL_SIZE = 224
# ImageNet with a background class in front, as TensorFlow's models have it.
WITH_BACKGROUND = 1001


def describe_classifier(
    path: str | Path, overrides: Mapping[str, Any] | None = None
) -> ModelDescription:
    """Find out how to run a classifier from its file.

    Raises:
        ModelError: the file cannot be read, or gives anything but one score per class.
    """
    checked = validated(overrides)
    model, spec, why, shape = read_image_model(path, checked.get("input_size"))
    scores = [size for size in shape[1:] if size != 1]
    if len(scores) != 1 or scores[0] is None:
        raise ModelError(
            f"{Path(path).name} is not a classifier: its output "
            f"'{model.graph.output[0].name}' has the shape {_text(shape)}. Expected one score per "
            "class, (N, classes)."
        )
    outputs = int(scores[0])
    background, said = _background(outputs, checked)
    kind = "probabilities" if _ends_in_softmax(model) else "logits"
    how = "ends in a softmax" if kind == "probabilities" else "does not end in a softmax"
    evidence = [why, f"{outputs} outputs: {kind}, since the graph {how}."]
    evidence += [said] if said else []
    evidence.append(
        "Preprocessing RGB, ImageNet's mean and std, centre crop of 0.875: what torchvision and "
        "timm use."
    )
    return described(
        model,
        spec,
        decode=f"{kind}+background" if background else kind,
        count=outputs - background,
        fit=replace(IMAGENET, fit="center_crop"),
        usual_size=USUAL_SIZE,
        evidence=tuple(evidence),
        overrides={key: v for key, v in checked.items() if key != "background"},
    )


def _background(outputs: int, checked: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether the first output is of no class, and a sentence on why, where it may matter.

    Raises:
        ModelError: the user says that the last one is.
    """
    given = checked.get("background")
    if given == "last":
        raise ModelError(
            "The model setting background = 'last' is for detectors. A classifier's background is "
            "'first' or 'none'; rearrange the outputs, or name that class in class_names."
        )
    if given is not None:
        left_out = "and is left out" if given == "first" else "so every output is a class"
        return given == "first", f"background = {given}: given by the user, {left_out}."
    names = checked.get("class_names")
    if names and len(names) in (outputs, outputs - 1):
        background = len(names) < outputs
        why = f"{len(names)} class names are given for {outputs} outputs"
        rest = "the first is background and left out" if background else "none is background"
        return background, f"{why}, so {rest}." if background or _usual(outputs) else ""
    said = (
        "The first of 1001 outputs is taken for a background class and left out; "
        "set background: none where all of them are classes."
    )
    return _usual(outputs), said if _usual(outputs) else ""


def _usual(outputs: int) -> bool:
    return outputs == WITH_BACKGROUND


def _ends_in_softmax(model: onnx.ModelProto) -> bool:
    made_by = graph.producers(model)
    node = made_by.get(model.graph.output[0].name)
    while node is not None and node.op_type in ("Reshape", "Squeeze", "Flatten", "Identity"):
        node = made_by.get(node.input[0])
    return node is not None and node.op_type == "Softmax"


def _text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("?" if size is None else str(size) for size in shape) + ")"
