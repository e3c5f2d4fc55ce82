"""Describe an ONNX model for semantic segmentation: planes per class, or class ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from saccade.errors import ModelError
from saccade.models import graph_reading as graph
from saccade.models.description import ModelDescription
from saccade.models.image_model import IMAGENET, described, read_image_model
from saccade.models.onnx_model import read_metadata, stored_names
from saccade.models.overrides import validated

USUAL_SIZE = 512


def describe_segmenter(
    path: str | Path, overrides: Mapping[str, Any] | None = None
) -> ModelDescription:
    """Find out how to run a segmentation model from its file.

    Raises:
        ModelError: the file cannot be read, or does not give a map of classes.
    """
    checked = validated(overrides)
    model, spec, why, shape = read_image_model(path, checked.get("input_size") or USUAL_SIZE)
    output = model.graph.output[0]
    whole = graph.dtype_name(output).startswith(("int", "uint"))
    name = Path(path).name
    if whole and len(shape) in (3, 4):
        names = checked.get("class_names") or stored_names(read_metadata(model))
        if not names:
            raise ModelError(
                f"{name} gives class ids, which do not say how many classes there are. Give their "
                "names with overrides: class_names."
            )
        decode, count, said = "indices", len(names), "class ids"
    elif len(shape) == 4 and shape[1] is not None and shape[1] > 1:
        decode, count, said = "planes", int(shape[1]), f"{shape[1]} planes of scores"
    else:
        raise ModelError(
            f"{name} is not a model for semantic segmentation: its output '{output.name}' has the "
            f"shape {shape}. Expected planes per class (N, classes, H, W) or class ids (N, H, W)."
        )
    evidence = (
        why,
        f"Output '{output.name}': {said}.",
        "Preprocessing RGB, ImageNet's mean and std, scaled to the input whatever the aspect: "
        "what torchvision uses.",
    )
    return described(
        model,
        spec,
        decode=decode,
        count=count,
        fit=replace(IMAGENET, fit="stretch"),
        usual_size=USUAL_SIZE,
        evidence=evidence,
        overrides=overrides,
    )
