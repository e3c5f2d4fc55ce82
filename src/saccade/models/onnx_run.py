"""Run an ONNX model once, to see its shapes or to compare its values."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from saccade.errors import ModelError


def run_once(model: onnx.ModelProto, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """All outputs of one run on ONNX Runtime's CPU provider.

    Raises:
        ModelError: ONNX Runtime refuses the model or the inputs; its first line says why.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return [np.asarray(output) for output in session.run(None, inputs)]
    except Exception as error:  # onnxruntime's exceptions share no base
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"ONNX Runtime refuses the graph ({first[:300]})") from error
