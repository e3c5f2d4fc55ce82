"""OpenVINO IR files, run as they are: nothing makes ONNX, or a PyTorch program, of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import onnx
import yaml

from saccade.errors import MissingExtraError, ModelError
from saccade.models.files import model_file
from saccade.models.ir_outline import outline
from saccade.models.sources.contract import ResolvedModel, SourceRequest
from saccade.models.sources.hub import refuse_random
from saccade.pipeline.config import Stored
from saccade.runtimes.openvino_core import openvino_core

# Beside the file, by Ultralytics' exporter; the keys are those of its ONNX files' metadata.
_BESIDE = "metadata.yaml"
_KEYS = ("names", "imgsz", "stride", "task", "license", "description")
# Types of constants that are weights in few bits.
_SMALL = ("i8", "u8", "i4", "u4", "nf4", "f8e4m3", "f8e5m2")


class OpenVinoIrSource:
    """A path that ends in ``.xml``, with the ``.bin`` of its weights beside it."""

    looks_for: ClassVar[str] = "an OpenVINO IR .xml file"

    @staticmethod
    def recognizes(reference: str) -> bool:
        """By the ending."""
        return Path(reference).suffix.lower() == ".xml"

    @staticmethod
    def resolve(request: SourceRequest) -> ResolvedModel:
        """The file itself, and an outline of it to read.

        Raises:
            ModelError: a file is missing, the IR cannot be read, or weights were given beside it.
            MissingExtraError: openvino is not installed.
        """
        path = Path(request.reference)
        refuse_random(request)
        if request.weights is not None:
            raise ModelError(
                f"'weights' was given, but {path.name} has its own. Leave 'weights' out, or name "
                "the architecture that they belong to as the model."
            )
        model = _read(path)
        metadata = _metadata(path, model)
        size = request.input_size or _stated_size(metadata) or request.usual_size
        # By the user's name, which is what messages about the graph call it.
        graph = request.folder / "outline" / path.name
        graph.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(outline(model, metadata, size), str(graph))
        file = replace(model_file(path), stored=_stored(model))
        note = (
            f"{path.name} is an OpenVINO IR and runs in OpenVINO as it is; no other format can be "
            "made of it, so what starts from ONNX or PyTorch is not open to it"
        )
        return ResolvedModel(file, graph, outline=True, notes=(note,))


def _read(path: Path) -> Any:
    for file, what in ((path, "model file"), (path.with_suffix(".bin"), "weights file")):
        if not file.is_file():
            raise ModelError(
                f"The {what} {file} does not exist. An OpenVINO IR is two files of one name, "
                ".xml and .bin, side by side. Check the path, or copy both."
            )
    try:
        core = openvino_core()
    except ImportError as error:
        raise MissingExtraError("openvino", "openvino", "An OpenVINO IR") from error
    try:
        return core.read_model(str(path))
    except RuntimeError as error:
        raise ModelError(
            f"OpenVINO cannot read {path}: {_reason(error)}. The .xml is damaged or no "
            "OpenVINO IR, or the .bin beside it belongs to another one. Export the model again."
        ) from error


def _reason(error: RuntimeError) -> str:
    """What OpenVINO says, without the lines on where in its sources it said so."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    plain = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (plain or lines or [type(error).__name__])[-1].rstrip(".!")


def _metadata(path: Path, model: Any) -> dict[str, str]:
    """What exporters say of the model: in a file beside it, else in the IR itself."""
    try:
        beside = yaml.safe_load((path.parent / _BESIDE).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        beside = None
    found = {k: str(beside[k]) for k in _KEYS if k in beside} if isinstance(beside, dict) else {}
    if "names" not in found and model.has_rt_info(["model_info", "labels"]):
        # Separated by spaces, those inside a name written as underscores.
        labels = str(model.get_rt_info(["model_info", "labels"]).value).split()
        found["names"] = str([label.replace("_", " ") for label in labels])
    return found


def _stated_size(metadata: Mapping[str, str]) -> int | None:
    """The longer side that the exporter says the model is for, pixels."""
    said = yaml.safe_load(metadata.get("imgsz", ""))
    sides = said if isinstance(said, list) else [said]
    return max((side for side in sides if isinstance(side, int)), default=None)


def _stored(model: Any) -> Stored:
    """What the weights are stored as, and whether activations are rounded, by the operators."""
    nodes = model.get_ops()
    if any(node.get_type_name() == "FakeQuantize" for node in nodes):
        return "int8"
    constants = [node for node in nodes if node.get_type_name() == "Constant"]
    # Not vectors: shapes and indices are stored as whole numbers everywhere.
    weights = [node for node in constants if len(node.get_output_shape(0)) > 1]
    types = {node.get_output_element_type(0).get_type_name() for node in weights}
    if types.intersection(_SMALL):
        return "int8_weights"
    return "fp16" if "f16" in types else "fp32"
