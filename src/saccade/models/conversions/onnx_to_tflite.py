"""ONNX to LiteRT's ``.tflite``, by onnx2tf in its own environment."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
from onnx import helper, numpy_helper

from saccade.environments.tool_environment import ToolEnvironment
from saccade.errors import ModelError, RuntimeFailure
from saccade.models.conversions.compared import check_converted
from saccade.models.conversions.contract import (
    ConversionRequest,
    converted_path,
    drafted,
    made_from,
)
from saccade.models.conversions.layers import by_value
from saccade.models.conversions.tflite_values import tflite_values, why_not_litert
from saccade.models.conversions.values import onnx_layers
from saccade.models.files import model_file
from saccade.models.graph_reading import real_inputs, with_input_shape
from saccade.models.onnx_file import read_onnx
from saccade.models.onnx_run import run_once, simplified
from saccade.models.reshape import at_size
from saccade.pipeline.config import ModelFile
from saccade.runtimes.litert import LiteRt

ENVIRONMENT = ToolEnvironment("onnx2tf")
# How onnx2tf and TensorFlow's converter spell what they cannot convert.
_OPERATOR = re.compile(r"[\w.]+ OP is not yet implemented|'tf\.\w+'|\bFlex\w+|\bCustom\w+")


class OnnxToTflite:
    """``.onnx`` to ``.tflite`` with its input in NHWC and its outputs as they were."""

    source: ClassVar[str] = "onnx"
    target: ClassVar[str] = "tflite"

    @staticmethod
    def why_not() -> str | None:
        """It needs its tool environment, and the runtime to compare with."""
        return why_not_litert(ENVIRONMENT)

    @staticmethod
    def convert(model: ModelFile, request: ConversionRequest) -> ModelFile:
        """See `saccade.models.conversions.contract.Conversion`."""
        path = converted_path(model, request, ".tflite")
        if path.exists():
            return made_from(model, path)
        request.folder.mkdir(parents=True, exist_ok=True)
        graph = at_size(read_onnx(model.path), request.hw)
        name = real_inputs(graph)[0].name
        with drafted(path) as draft:
            first = run_once(graph, {name: request.inputs[:1]})
            # Shape arithmetic confuses onnx2tf, and at one size there is none left.
            fixed = simplified(with_input_shape(graph, name, request.inputs[:1].shape))
            _write(with_planes(fixed, [array.shape for array in first]), name, draft, request.hw)
            check_converted(
                lambda image: run_once(graph, {name: image}),
                model_file(draft),
                LiteRt,
                request.inputs,
                lambda image: by_value(onnx_layers(graph, image), tflite_values(draft, image)),
            )
        return made_from(model, path)


def with_planes(model: onnx.ModelProto, shapes: list[tuple[int, ...]]) -> onnx.ModelProto:
    """A copy whose four-dimensional outputs stay plane by plane.

    onnx2tf turns images into NHWC, also those that a model answers with. What has been reshaped
    keeps its order, so each such output is made flat and given its shape again.

    Args:
        model: any graph.
        shapes: of its outputs.
    """
    wrapped = onnx.ModelProto()
    wrapped.CopyFrom(model)
    graph = wrapped.graph
    for output, shape in zip(graph.output, shapes, strict=True):
        if len(shape) == 4:
            _reshape_twice(graph, output.name, shape)
    return wrapped


def _reshape_twice(graph: onnx.GraphProto, name: str, shape: tuple[int, ...]) -> None:
    before, flat = f"{name}/planes", f"{name}/flat"
    for node in graph.node:
        _rename(node.output, name, before)
        _rename(node.input, name, before)
    targets = {f"{flat}/shape": (*shape[:2], -1), f"{name}/shape": shape}
    for key, dims in targets.items():
        graph.initializer.append(numpy_helper.from_array(np.array(dims, np.int64), key))
    graph.node.append(helper.make_node("Reshape", [before, f"{flat}/shape"], [flat], flat))
    graph.node.append(helper.make_node("Reshape", [flat, f"{name}/shape"], [name], f"{name}/back"))


def _rename(names: Any, old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new


def _write(model: onnx.ModelProto, name: str, target: Path, hw: tuple[int, int]) -> None:
    with tempfile.TemporaryDirectory(prefix="saccade-") as folder:
        # onnx2tf names its file after this one.
        path = Path(folder) / "model.onnx"
        onnx.save(model, str(path))
        document = {"model": str(path), "target": str(target.resolve()), "input": name}
        try:
            ENVIRONMENT.run(
                "onnx_to_tflite", {**document, "hw": list(hw)}, "Making LiteRT's format from ONNX"
            )
        except RuntimeFailure as error:
            raise ModelError(_refusal(str(error))) from error


def _refusal(said: str) -> str:
    """What to tell people: the operator, where one is to blame."""
    found = _OPERATOR.search(said)
    lines = said.strip().splitlines() or ["no reason given"]
    cause = f"it has nothing for {found[0]}" if found else lines[0][:300]
    return (
        f"The ONNX model cannot be made into LiteRT's format: {cause}. It still runs in ONNX "
        "Runtime; cut that operator out of the graph, or bring the model as PyTorch."
    )
