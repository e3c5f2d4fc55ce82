"""Run an ONNX model once, to see its shapes or to compare its values."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from saccade.errors import ModelError, first_line
from saccade.models.onnx_save import BESIDE, LARGEST, loadable, size_of

# Rewriting into operators that few other runtimes take: the four slices
# with which some detectors begin become a gather of channels.
_MADE_FOR_ITSELF = ["SliceConcatToSpaceToDepthFusion"]
# The file that the weights of a rewritten graph go into.
_APART = "session.optimized_model_external_initializers_file_name"


def run_once(model: onnx.ModelProto, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """All outputs of one run on ONNX Runtime's CPU provider.

    Raises:
        ModelError: ONNX Runtime refuses the model or the inputs; its first line says why.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        with loadable(model) as source:
            session = onnxruntime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"]
            )
        return [np.asarray(output) for output in session.run(None, inputs)]
    except Exception as error:  # onnxruntime's exceptions share no base
        raise ModelError(f"ONNX Runtime refuses the graph ({first_line(error)})") from error


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """As `strictly_simplified`, but a model that ONNX Runtime refuses comes back as it is."""
    try:
        return strictly_simplified(model)
    except ModelError:  # what is wrong with it is said best by who runs it
        return model


def strictly_simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy after ONNX Runtime's basic rewriting, which keeps to standard operators.

    Constants are folded, shape arithmetic with them, and batch norms fused.

    Raises:
        ModelError: ONNX Runtime refuses the model; its first line says why.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory(prefix="saccade-") as folder:
        target = Path(folder) / "simplified.onnx"
        options.optimized_model_filepath = str(target)
        if size_of(model) > LARGEST:
            options.add_session_config_entry(_APART, target.name + BESIDE)
        try:
            with loadable(model) as source:
                onnxruntime.InferenceSession(
                    source,
                    options,
                    ["CPUExecutionProvider"],
                    disabled_optimizers=_MADE_FOR_ITSELF,
                )
            return onnx.load(str(target))
        except Exception as error:  # onnxruntime's exceptions share no base
            raise ModelError(f"ONNX Runtime refuses the graph ({first_line(error)})") from error
