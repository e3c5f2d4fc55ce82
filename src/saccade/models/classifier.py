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
    background = outputs == WITH_BACKGROUND
    kind = "probabilities" if _ends_in_softmax(model) else "logits"
    how = "ends in a softmax" if kind == "probabilities" else "does not end in a softmax"
    evidence = [why, f"{outputs} outputs: {kind}, since the graph {how}."]
    if background:
        evidence.append("The first of 1001 outputs is taken for a background class and left out.")
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
        overrides=overrides,
    )


def _ends_in_softmax(model: onnx.ModelProto) -> bool:
    made_by = graph.producers(model)
    node = made_by.get(model.graph.output[0].name)
    while node is not None and node.op_type in ("Reshape", "Squeeze", "Flatten", "Identity"):
        node = made_by.get(node.input[0])
    return node is not None and node.op_type == "Softmax"


def _text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("?" if size is None else str(size) for size in shape) + ")"
