"""Quantize a PyTorch program to int8 and run it compiled, in PyTorch on the CPU."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Self

from saccade.models.families import BOX_DECODES
from saccade.optimize.change import Effect, PlanContext, Prediction
from saccade.optimize.precision_gain import precision_prediction
from saccade.optimize.quantization.ladder import PAYING, Situation
from saccade.optimize.quantization.recipe import OUTPUT_FLOAT, Recipe
from saccade.optimize.quantization.recipe_ladder import RecipeLadder
from saccade.pipeline.config import PipelineConfig
from saccade.tasks.nms import SUPPRESSED_DECODES

# Calibration one image at a time, and compiling in every process that opens the file.
COST_S = 90.0
ODDS = 0.5
SIZE = 0.3
X86 = ("x86_64", "amd64")
COMPILERS = ("g++", "clang++")
# Rungs of other ladders that this one lacks.
LACKING = {
    PAYING: "PyTorch's profile tells kinds of operators apart, not layers",
    "bias correction": "torchao corrects no biases; quantize for OpenVINO or ONNX Runtime",
    "equalization": "it is made in ONNX graphs only, and a program is quantized as it stands",
    "quantization-aware training": (
        "NNCF's trained quantizers can be written for OpenVINO and ONNX Runtime, not as .pt2"
    ),
}


@dataclass(frozen=True)
class QuantizeTorch(RecipeLadder):
    """PyTorch's own int8: unsigned activations, weights per channel, compiled by inductor."""

    name: ClassVar[str] = "torch_int8"
    effect: ClassVar[Effect] = "near_lossless"

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """The first rung; the search climbs where accuracy asks for it."""
        boxes = context.config.description.decode in _BOXES
        yield cls(Recipe(float_depth=OUTPUT_FLOAT if boxes else 0))

    def situation(self, context: PlanContext) -> Situation:
        """See `RecipeLadder`."""
        from saccade.optimize.torch_quantization import ESTIMATORS

        return Situation(
            estimators=ESTIMATORS,
            has_head=context.config.description.decode in _BOXES,
            images=len(context.calibration) if context.calibration else 0,
            why_not_trained=None,
            lacking=LACKING,
        )

    def applies(self, context: PlanContext) -> str | None:
        """Needs a float program in PyTorch on an x86 CPU, torchao, a compiler, and frames."""
        from saccade.optimize.quantization.checked import why_not_calibrated

        config = context.config
        if config.runtime == "torch-cuda":
            return "PyTorch's int8 kernels are those of CPUs; TensorRT has int8 for GPUs"
        if config.runtime != "torch":
            return f"the model runs in {config.runtime}"
        if config.model.quantized:
            return "the model is quantized already"
        if config.model.format != "torch_export":
            return f"the model is in {config.model.format} format; it starts from a .pt2 program"
        if not Path(config.model.path).is_file():
            return "the program's file is not there"
        return _why_not_one_size(config) or _why_not_here() or why_not_calibrated(context)

    def predict(self, context: PlanContext) -> Prediction:
        """By the measured peaks of this machine, else by a prior."""
        prediction = precision_prediction(context, "int8", bytes_factor=0.25, cost_s=COST_S)
        return replace(prediction, odds=ODDS, shrinks={"model_mb": SIZE})

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Quantize in a process of its own; only compiled does the file run on int8 kernels."""
        from saccade.optimize.torch_quantization import quantize_torch

        config = context.config
        options = replace(
            config.options, precision="fp32", graph_level="compile", channels_last=True
        )
        return replace(config, options=options, model=quantize_torch(context, self.recipe))

    def details(self, context: PlanContext) -> dict[str, Any]:
        """What was measured on the way: sensitivity per layer, what stayed float, doubts."""
        from saccade.optimize.quantization.make import details_of
        from saccade.optimize.torch_quantization import quantized_path

        return details_of(quantized_path(context, self.recipe))


_BOXES = SUPPRESSED_DECODES.union(BOX_DECODES)


def _why_not_one_size(config: PipelineConfig) -> str | None:
    """None where the model sees inputs of one size only: roundings are exported for one."""
    if config.shape == "rect":
        return "an int8 program has one input shape, and the letterbox follows the frame"
    if config.dynamic_resolution is not None:
        return "an int8 program has one input shape, and the resolution is dynamic"
    if config.dynamic:
        return "the program takes any input size, and an int8 program has one input size"
    return None


def _why_not_here() -> str | None:
    """None where this machine can make and run int8 programs."""
    if platform.machine().lower() not in X86:
        return f"PyTorch's int8 kernels are those of x86, and this is {platform.machine()}"
    if find_spec("torchao") is None:
        return "torchao is not installed (pip install 'saccade[torch-int8]')"
    named = os.environ.get("CXX", "")
    if not any(shutil.which(name) for name in (named, *COMPILERS) if name):
        return "there is no C++ compiler (g++ or clang++), and PyTorch compiles with one"
    return None
