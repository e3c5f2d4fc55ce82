"""Whether two pipelines see a frame in the same geometry, and how one is made to. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from saccade.pipeline.config import PipelineConfig
from saccade.pipeline.pipeline import input_hw, letterbox_of

# Frames of other aspects, on which two geometries that only happen to agree would differ.
PROBES = ((480, 640), (640, 480), (333, 500), (1080, 1920))
# Preprocessors that scale a frame and then normalize it; one of the user's own does as it likes.
KNOWN = ("numpy", "fused", "graph")


def why_other_geometry(parts: Sequence[PipelineConfig], frame_hw: tuple[int, int]) -> str | None:
    """None where both models see any frame at the same place, at the same size."""
    first, second = parts
    for part in parts:
        if part.preprocessor not in KNOWN:
            return f"the preprocessing of {part.task} is yours"
        if part.description.input.layout != "NCHW":
            return f"the input of {part.task} is {part.description.input.layout}"
    here = [letterbox_of(part, frame_hw) for part in parts]
    if here[0] != here[1]:
        return f"the models see a frame in other geometries: {_said(first)}, {_said(second)}"
    for hw in PROBES:
        if letterbox_of(first, hw) != letterbox_of(second, hw):
            return "frames of another aspect would lie elsewhere in one of the two inputs"
    pads = {part.description.preprocessing.pad_value for part in parts}
    bordered = any(
        letterbox_of(first, hw).scaled_hw != letterbox_of(first, hw).input_hw
        for hw in (frame_hw, *PROBES)
    )
    if bordered and len(pads) > 1:
        return "the models want borders of another grey"
    return None


def why_not_as_seen_by(config: PipelineConfig, other: PipelineConfig) -> str | None:
    """None where the model may be fed frames as the other one sees them."""
    if not config.dynamic and config.model.format != "onnx":
        return f"the model of {config.task} was converted for one input size"
    stride = config.description.stride
    if any(side % stride for side in input_hw(other)):
        return f"the input of {config.task} has to be a multiple of {stride} pixels"
    return None


def as_seen_by(config: PipelineConfig, other: PipelineConfig) -> PipelineConfig:
    """The configuration with the geometry of another: size, fit and border; its own colours."""
    pre, theirs = config.description.preprocessing, other.description.preprocessing
    fitted = replace(
        pre,
        fit=theirs.fit,
        anchor=theirs.anchor,
        pad_value=theirs.pad_value,
        crop_share=theirs.crop_share,
    )
    described = replace(
        config.description,
        preprocessing=fitted,
        input_hw=other.description.input_hw,
        input_size=other.description.input_size,
        stride=other.description.stride,
    )
    return replace(
        config,
        description=described,
        input_size=other.input_size,
        shape=other.shape,
        margin=other.margin,
        squeeze=other.squeeze,
    )


def pixels_of_input(config: PipelineConfig, frame_hw: tuple[int, int]) -> int:
    """Pixels that the model sees of a frame, border included."""
    height, width = letterbox_of(config, frame_hw).input_hw
    return height * width


def _said(config: PipelineConfig) -> str:
    fit = config.description.preprocessing.fit.replace("_", " ")
    height, width = input_hw(config)
    return f"{config.task} {fit} {width}x{height}"
