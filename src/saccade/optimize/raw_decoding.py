"""Make the model file whose decoding was cut out, and see that it says the same."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from saccade.errors import ModelError
from saccade.models.description import ModelDescription
from saccade.models.onnx_file import read_onnx
from saccade.models.raw_head import RAW_DECODES, can_cut, cut_head, raw_description
from saccade.optimize.rewriting import Outputs, rewritten
from saccade.pipeline.config import PipelineConfig
from saccade.tasks.detection_decode import DECODES

# The first word begins the new file's name; the number is raised when the cut is another.
METHOD = "raw head 1"
# Pixels and score: what float32 arithmetic in another order may change.
BOX_TOLERANCE, SCORE_TOLERANCE = 0.1, 1e-3


def why_not_raw(config: PipelineConfig) -> str | None:
    """None where the decoding can be cut out of this model, else the reason why it cannot."""
    description = config.description
    if description.decode in RAW_DECODES.values():
        return "already in use"
    if config.nms == "graph":
        return "NMS in the graph needs the boxes in the graph"
    if config.model.format != "onnx":
        return f"the model is in {config.model.format} format, and this starts from ONNX"
    if config.model.quantized:
        return "the model was quantized already"
    if description.decode not in RAW_DECODES:
        return f"a {description.decode} model has no decoding in its graph that could be cut out"
    return _why_not_cut(config.model.path, config.model.sha256, len(description.class_names))


@lru_cache(maxsize=16)
def _why_not_cut(path: str, sha256: str, classes: int) -> str | None:
    try:
        return can_cut(read_onnx(path), classes)
    except ModelError as error:
        return str(error)


def with_raw_decoding(config: PipelineConfig, folder: Path) -> PipelineConfig:
    """The configuration with the decoding cut out; a file that is already there is used again.

    Raises:
        ModelError: the cut model does not say the same as the whole one.
    """
    description = config.description
    cut = partial(cut_head, classes=len(description.class_names))
    model = rewritten(config, folder, METHOD, cut, partial(_same_cells, description))
    return replace(config, model=model, description=raw_description(description))


def _same_cells(description: ModelDescription, whole: Outputs, cut: Outputs) -> None:
    """Every cell's box and score, from both models."""
    spec, (height, width) = description.input, description.own_hw
    hw = (spec.height or height, spec.width or width)
    if description.transposed:
        whole = [np.swapaxes(output, -1, -2) for output in whole]
    expected = DECODES[description.decode][0](whole, -1.0, hw)
    found = DECODES[RAW_DECODES[description.decode]][0](cut, -1.0, hw)
    if len(found[0]) != len(expected[0]):
        raise ModelError(
            f"Cut out of its graph, the decoding gives {len(found[0])} cells instead of "
            f"{len(expected[0])}; the model is left whole."
        )
    box = float(np.abs(found[0] - expected[0]).max())
    score = float(np.abs(found[1] - expected[1]).max())
    if not (box <= BOX_TOLERANCE and score <= SCORE_TOLERANCE):
        raise ModelError(
            f"Cut out of its graph, the decoding gives boxes that differ by up to {box:.3g} pixels "
            f"and scores that differ by up to {score:.3g}; the model is left whole."
        )
