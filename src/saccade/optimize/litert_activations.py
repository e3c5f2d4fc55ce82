"""Ranges of a LiteRT model's activations on real inputs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.optimize.quantization.activations import Ranges

LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


def observe_litert(model: Path, images: Sequence[NDArray[np.float32]]) -> Ranges:
    """Run a float ``.tflite`` model and note the ranges of what its layers give.

    Args:
        model: the file.
        images: inputs in the model's own layout.
    """
    interpreter = watching(model.read_bytes())
    watched = {str(tensor["name"]): int(tensor["index"]) for tensor in _given(interpreter)}

    def each() -> Iterator[dict[str, NDArray[np.float32]]]:
        for image in images:
            run(interpreter, image)
            yield {
                name: channels_first(interpreter.get_tensor(index))
                for name, index in watched.items()
            }

    return Ranges.gathered(each())


def watching(model: bytes) -> Any:
    """An interpreter that keeps all tensors, ready to run."""
    from ai_edge_litert.interpreter import Interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that keeping all tensors takes memory
        interpreter = Interpreter(model_content=model, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    return interpreter


def run(interpreter: Any, image: NDArray[np.float32]) -> None:
    """One image through the model."""
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()


def channels_first(value: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(1, H, W, C)`` as ``(1, C, H, W)``; anything else as it is."""
    return np.moveaxis(value, -1, 1) if value.ndim == 4 else value


def _given(interpreter: Any) -> list[Any]:
    """Details of the tensors that layers with weights give."""
    details = {d["index"]: d for d in interpreter.get_tensor_details()}
    ops = interpreter._get_ops_details()
    return [details[int(op["outputs"][0])] for op in ops if op["op_name"] in LAYERS]
