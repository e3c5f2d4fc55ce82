"""Describe an ONNX model for instance segmentation: a detector with coefficients and prototypes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from saccade.errors import ModelError
from saccade.models import graph_reading as graph
from saccade.models.description import Dim, ModelDescription
from saccade.models.families import SEGMENTER
from saccade.models.onnx_file import read_onnx
from saccade.models.onnx_model import describe_model


def describe_instance_segmenter(
    path: str | Path, overrides: Mapping[str, Any] | None = None
) -> ModelDescription:
    """Find out how to run an instance segmentation model from its file.

    Args:
        path: an ONNX file.
        overrides: as of `saccade.models.onnx_model.describe`.

    Raises:
        ModelError: the file cannot be read, or is not of the YOLOv8-seg and YOLO11-seg family.
    """
    name = Path(path).name
    model = read_onnx(path, weights=False)
    rows, prototypes = _outputs(model, name)
    masks = graph.dims(prototypes)[1] or _inferred_channels(model, prototypes.name)
    if masks is None:
        raise ModelError(
            f"{name} does not say how many prototypes {prototypes.name!r} holds. Export it with a "
            "fixed number of channels."
        )
    detector = onnx.ModelProto()
    detector.CopyFrom(model)
    del detector.graph.output[:]
    detector.graph.output.append(rows)
    found = describe_model(detector, overrides, name, families=(replace(SEGMENTER, tail=masks),))
    sentence = (
        f"Masks: output {prototypes.name!r} holds {masks} prototypes, and the last {masks} values "
        f"of {rows.name!r} are their coefficients."
    )
    return replace(found, evidence=(*found.evidence, sentence))


def _outputs(model: onnx.ModelProto, name: str) -> tuple[onnx.ValueInfoProto, onnx.ValueInfoProto]:
    """The output of rows ``(1, 4+classes+K, anchors)`` and that of prototypes ``(1, K, h, w)``.

    Raises:
        ModelError: there are others, or fewer.
    """
    shapes = {value.name: graph.dims(value) for value in model.graph.output}
    rows = [value for value in model.graph.output if len(shapes[value.name]) == 3]
    prototypes = [value for value in model.graph.output if len(shapes[value.name]) == 4]
    if len(shapes) != 2 or len(rows) != 1 or len(prototypes) != 1:
        listed = ", ".join(f"{key!r} {_text(shape)}" for key, shape in shapes.items())
        raise ModelError(
            f"{name} is not a model for instance segmentation that saccade can decode: its "
            f"outputs are {listed}. Expected two, as of YOLOv8-seg and YOLO11-seg: "
            "(1, 4+classes+K, anchors) and K prototypes (1, K, H/4, W/4), exported without NMS."
        )
    return rows[0], prototypes[0]


def _inferred_channels(model: onnx.ModelProto, output: str) -> int | None:
    shape = graph.inferred_shapes(model).get(output, ())
    return shape[1] if len(shape) == 4 else None


def _text(shape: tuple[Dim, ...]) -> str:
    return "(" + ", ".join("?" if size is None else str(size) for size in shape) + ")"
