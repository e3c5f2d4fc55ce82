"""Write a rewritten ONNX model once, after it was seen to say the same as the original."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from saccade.models.files import rewritten_file
from saccade.models.onnx_file import read_onnx
from saccade.models.onnx_run import run_once
from saccade.models.onnx_save import save_onnx
from saccade.pipeline.config import ModelFile, PipelineConfig, digest

Outputs = list[NDArray[Any]]
# Raises a `ModelError` where the outputs of the original and of the rewritten model differ.
Check = Callable[[Outputs, Outputs], None]


def rewritten(
    config: PipelineConfig,
    folder: Path,
    method: str,
    rewrite: Callable[[onnx.ModelProto], onnx.ModelProto],
    check: Check,
) -> ModelFile:
    """The configuration's model, rewritten and checked; a file that is there is used again.

    Args:
        config: its model must be an ONNX file.
        folder: where the new file goes.
        method: names the rewriting and its version; part of the file's name.
        rewrite: makes the new model.
        check: compares the outputs of both on one noise image.

    Raises:
        ModelError: the model cannot be rewritten, or then says something else.
    """
    stem = method.split()[0]
    target = folder / f"{stem}-{digest([config.model.sha256, method])}.onnx"
    if target.exists():
        return rewritten_file(target, config.model)
    folder.mkdir(parents=True, exist_ok=True)
    before = read_onnx(config.model.path)
    after = rewrite(before)
    inputs = {config.description.input.name: _noise(config)}
    check(run_once(before, inputs), run_once(after, inputs))
    save_onnx(after, target)
    return rewritten_file(target, config.model)


def _noise(config: PipelineConfig) -> NDArray[Any]:
    """An image of noise as the model takes it, in the range that its pixels have."""
    description = config.description
    spec, pre = description.input, description.preprocessing
    height, width = description.own_hw
    sizes = {"N": 1, "C": 3, "H": spec.height or height, "W": spec.width or width}
    channels = tuple(3 if axis == "C" else 1 for axis in spec.layout)
    pixels = np.random.default_rng(0).uniform(0, 255, [sizes[axis] for axis in spec.layout])
    mean, std = (np.reshape(values, channels) for values in (pre.mean, pre.std))
    tensor: NDArray[Any] = ((pixels * pre.scale - mean) / std).astype(spec.dtype)
    return tensor
