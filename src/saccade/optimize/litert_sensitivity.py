"""Which layers of a LiteRT model int8 disturbs: one at a time is quantized, all others float.

The quantizer itself makes every such file, so what is measured is what it does.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.optimize.litert_activations import LAYERS, run, watching
from saccade.optimize.litert_calibrated import Calibrated
from saccade.optimize.quantization.sensitivity import (
    BUDGET_S,
    IMAGES,
    Sensitivity,
    relative_error,
)


def measure(calibrated: Calibrated) -> list[Sensitivity]:
    """Sensitivity of every layer, the largest first. Layers that time did not allow are missing.

    Args:
        calibrated: the float model with the ranges of its tensors.
    """
    images = calibrated.images[:IMAGES]
    exact = _outputs(calibrated.model.read_bytes(), images)
    deadline = time.monotonic() + BUDGET_S
    found = []
    for name, kind in weighted(calibrated.model.read_bytes()):
        if time.monotonic() > deadline:
            break
        rough = _outputs(calibrated.only(name), images)
        found.append(Sensitivity(name, kind, relative_error(exact, rough)))
    return sorted(found, key=lambda item: -item.error)


def weighted(model: bytes) -> list[tuple[str, str]]:
    """Operators with weights, in graph order: the tensor that each gives, and its kind."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model)
    # Before tensors are allocated the graph is as the file has it, without XNNPACK's part.
    names = {d["index"]: str(d["name"]) for d in interpreter.get_tensor_details()}
    return [
        (names[int(op["outputs"][0])], str(op["op_name"]))
        for op in interpreter._get_ops_details()
        if op["op_name"] in LAYERS
    ]


def _outputs(model: bytes, images: Sequence[NDArray[np.float32]]) -> list[list[NDArray[Any]]]:
    interpreter = watching(model)
    found = []
    for image in images:
        run(interpreter, image)
        ends = interpreter.get_output_details()
        found.append([np.array(interpreter.get_tensor(end["index"])) for end in ends])
    return found
