"""TorchScript to ONNX by the older exporter of PyTorch, which takes what ``torch.export`` refuses.

It keeps loops and branches, and needs no Python code of the model.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from saccade.errors import ModelError, first_line
from saccade.models.conversions.contract import drafted
from saccade.models.conversions.layers import NO_NAMES, by_value
from saccade.models.conversions.torch_to_onnx import INPUT
from saccade.models.conversions.values import onnx_layers, script_layers
from saccade.models.equivalence import check_same
from saccade.models.onnx_file import read_onnx
from saccade.models.onnx_run import run_once
from saccade.models.torch_module import LoadedModule, state_hash
from saccade.models.torch_program import run_program
from saccade.models.traced_onnx import traced_onnx


def script_onnx(loaded: LoadedModule, folder: Path, inputs: NDArray[np.float32]) -> Path:
    """ONNX made from TorchScript, once, and compared on real images.

    Args:
        loaded: the TorchScript module, with the weights that it is to have.
        folder: where the new file goes, under a name by its content.
        inputs: real inputs ``(N, 3, H, W)``.

    Raises:
        ModelError: it cannot be converted, or answers differently; the worst layer is named.
    """
    example = inputs[:1]
    code = str(loaded.module.inlined_graph) + state_hash(loaded.module)
    content = hashlib.sha256(code.encode()).hexdigest()[:12]
    path = folder / f"{content}-{loaded.hw[0]}x{loaded.hw[1]}.onnx"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with drafted(path) as draft:
        draft.write_bytes(_exported(loaded.module, example))
        _compare(loaded.module, read_onnx(draft), inputs)
    return path


def _exported(module: Any, example: NDArray[np.float32]) -> bytes:
    try:
        return traced_onnx(module, example, INPUT)
    except Exception as error:  # its own errors share no base
        raise ModelError(f"torch.onnx refuses it: {first_line(error)}") from error


def _compare(module: Any, model: onnx.ModelProto, inputs: NDArray[np.float32]) -> None:
    for tensor in inputs:
        check_same(
            run_program(module, tensor[None]),
            run_once(model, {INPUT: tensor[None]}),
            "The ONNX made from the TorchScript",
            lambda tensor=tensor: worst_layer(module, model, tensor[None]),  # type: ignore[misc]
        )


def worst_layer(module: Any, model: onnx.ModelProto, tensor: NDArray[np.float32]) -> str:
    """A sentence on the layers of TorchScript whose values ONNX made from it does not have.

    Args:
        module: the original.
        model: ONNX made from it.
        tensor: the input, ``(1, 3, H, W)``.
    """
    found = [layer.value for layer in onnx_layers(model, tensor)]
    try:
        original = script_layers(module, tensor)
    except RuntimeError:  # a program that cannot be taken apart; that it differs is still said
        return NO_NAMES
    return by_value(original, [tensor, *found])
