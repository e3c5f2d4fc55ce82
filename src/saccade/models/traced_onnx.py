"""ONNX by PyTorch's older exporter, which traces: it keeps what ``torch.export`` refuses."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What every runtime here reads, and the last in which it writes rounding per channel as it is.
OPSET = 17


def traced_onnx(module: Any, example: NDArray[np.float32], name: str, free: bool = False) -> bytes:
    """The ONNX file of a module with one input.

    Args:
        module: an ``nn.Module`` or TorchScript.
        example: an input, ``(1, 3, H, W)`` float32.
        name: of the input.
        free: whether every height and width is taken.

    Raises:
        Exception: whatever the exporter says; its errors share no base.
    """
    import torch

    made = io.BytesIO()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        # It says of itself, at length, that it is the older one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.from_numpy(example),),
            made,
            dynamo=False,
            input_names=[name],
            opset_version=OPSET,
            dynamic_axes={name: {2: "height", 3: "width"}} if free else None,
        )
    return made.getvalue()
