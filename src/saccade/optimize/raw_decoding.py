"""Make the model file whose decoding was cut out, and see that it says the same."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx

from saccade.errors import ModelError
from saccade.models.files import rewritten_file
from saccade.models.onnx_file import read_onnx
from saccade.models.onnx_run import run_once
from saccade.models.raw_head import RAW_DECODES, can_cut, cut_head, raw_description
from saccade.pipeline.config import PipelineConfig, digest
from saccade.tasks.detection_decode import DECODES

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
        return "the model was converted already"
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
    target = folder / f"raw-{digest([config.model.sha256, 'raw head 1'])}.onnx"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        whole = read_onnx(config.model.path)
        cut = cut_head(whole, len(description.class_names))
        _compare(whole, cut, config)
        partial = target.with_name("partial-" + target.name)
        onnx.save(cut, str(partial))
        partial.replace(target)
    model = rewritten_file(target, config.model)
    return replace(config, model=model, description=raw_description(description))


def _compare(whole: onnx.ModelProto, cut: onnx.ModelProto, config: PipelineConfig) -> None:
    """Every cell's box and score on noise, from both models."""
    description = config.description
    spec = description.input
    sizes = {
        "N": 1,
        "C": 3,
        "H": spec.height or config.input_size,
        "W": spec.width or config.input_size,
    }
    noise = np.random.default_rng(0).random([sizes[axis] for axis in spec.layout])
    tensor = (noise / (255 * description.preprocessing.scale)).astype(spec.dtype)
    hw = (sizes["H"], sizes["W"])
    outputs = run_once(whole, {spec.name: tensor})
    if description.transposed:
        outputs = [np.swapaxes(output, -1, -2) for output in outputs]
    expected = DECODES[description.decode][0](outputs, -1.0, hw)
    found = DECODES[RAW_DECODES[description.decode]][0](
        run_once(cut, {spec.name: tensor}), -1.0, hw
    )
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
