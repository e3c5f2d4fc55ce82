"""What classifiers and segmenters have in common: one image in, one tensor out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from saccade.errors import ModelError
from saccade.models import graph_reading as graph
from saccade.models.description import Dim, InputSpec, ModelDescription, Preprocessing
from saccade.models.onnx_file import read_onnx
from saccade.models.onnx_model import image_input, read_metadata, stored_names
from saccade.models.overrides import apply_overrides, validated

# What torchvision and timm feed nearly all their models: RGB from 0 to 1, by ImageNet's statistics.
IMAGENET = Preprocessing(
    scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), pad_value=0
)
_STRIDES = (32, 16, 8)


def read_image_model(
    path: str | Path, size: int | None
) -> tuple[onnx.ModelProto, InputSpec, str, tuple[Dim, ...]]:
    """The model, its input with one sentence on it, and the shape of its first output.

    Args:
        path: an ONNX file.
        size: side of the input in pixels where it is dynamic.

    Raises:
        ModelError: the file cannot be read, or takes no image.
    """
    model = read_onnx(path, weights=False)
    spec, why = image_input(model, Path(path).name)
    declared = graph.dims(model.graph.output[0])
    if None not in declared[1:]:
        return model, spec, why, declared
    sizes = {"N": 1, "C": 3, "H": spec.height or size or 224, "W": spec.width or size or 224}
    fixed = graph.with_input_shape(model, spec.name, [sizes[axis] for axis in spec.layout])
    inferred = graph.inferred_shapes(fixed).get(model.graph.output[0].name, ())
    return model, spec, why, inferred or declared


def described(
    model: onnx.ModelProto,
    spec: InputSpec,
    *,
    decode: str,
    count: int,
    fit: Preprocessing,
    usual_size: int,
    evidence: tuple[str, ...],
    overrides: Mapping[str, Any] | None,
) -> ModelDescription:
    """Put a description together, with the user's word on top."""
    checked = validated(overrides)
    metadata = read_metadata(model)
    given = checked.get("class_names") or stored_names(metadata)
    if given and len(given) != count:
        raise ModelError(
            f"The model has {count} classes, but {len(given)} class names are given. "
            "Give one name per class, in the model's order."
        )
    size = max(spec.height or 0, spec.width or 0) or checked.get("input_size", usual_size)
    hw = (spec.height, spec.width) if spec.height and spec.width else None
    stride = next((s for s in _STRIDES if not any(side % s for side in hw or (size,))), 1)
    preprocessing = fit
    if graph.scaled_in_graph(model, spec.name):
        preprocessing = replace(fit, scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
    description = ModelDescription(
        input=spec,
        preprocessing=preprocessing,
        decode=decode,
        input_size=size,
        stride=stride,
        class_names=tuple(given or (f"class_{index}" for index in range(count))),
        evidence=evidence,
        license=metadata.get("license", ""),
        input_hw=hw if hw and hw[0] != hw[1] else None,
    )
    return apply_overrides(description, checked)
