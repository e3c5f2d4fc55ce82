"""Quantize an OpenVINO IR that the user brought to int8; ONNX models go through `int8`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from saccade.models.families import BOX_DECODES
from saccade.optimize.change import Effect, PlanContext, Prediction
from saccade.optimize.changes.fp16_weights import SIZE as FP16_SIZE
from saccade.optimize.float_model import is_float
from saccade.optimize.precision_gain import precision_prediction
from saccade.optimize.quantization.ladder import PAYING, Situation
from saccade.optimize.quantization.nncf_call import ESTIMATORS
from saccade.optimize.quantization.overflow import products_overflow
from saccade.optimize.quantization.recipe import OUTPUT_FLOAT, Recipe
from saccade.optimize.quantization.recipe_ladder import RecipeLadder
from saccade.pipeline.config import PipelineConfig
from saccade.tasks.nms import SUPPRESSED_DECODES

COST_S = 9.0
ODDS = 0.5
SIZE = 0.28
# What files take that int8 makes smaller, of the size in fp32.
LARGER = {"fp32": 1.0, "fp16": FP16_SIZE}
# Rungs of the ladder for ONNX models that this one lacks.
LACKING = {
    PAYING: "which layers gain is measured against ONNX graphs only",
    "equalization": "it is made in ONNX graphs only",
    "most sensitive layers float": "which those are is measured in ONNX graphs only",
    "mixed precision": "which layers are sensitive is measured in ONNX graphs only",
    "quantization-aware training": "weights are trained in PyTorch, and no IR can go there",
}
_BOXES = SUPPRESSED_DECODES.union(BOX_DECODES)


@dataclass(frozen=True)
class QuantizeIr(RecipeLadder):
    """NNCF's post-training quantization of an IR, on real frames."""

    name: ClassVar[str] = "openvino_int8"
    effect: ClassVar[Effect] = "near_lossless"

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """The first rung; the search climbs where accuracy asks for it."""
        decode = context.config.description.decode
        depth = OUTPUT_FLOAT if decode in _BOXES else 0
        attends, halved = decode == "detr", products_overflow()
        yield cls(Recipe(float_depth=depth, transformer=attends, halved=halved))

    def situation(self, context: PlanContext) -> Situation:
        """See `RecipeLadder`."""
        return Situation(
            estimators=ESTIMATORS,
            has_head=context.config.description.decode in _BOXES,
            images=len(context.calibration) if context.calibration else 0,
            why_not_trained=None,
            lacking=LACKING,
        )

    def applies(self, context: PlanContext) -> str | None:
        """Needs a float IR, NNCF, and frames to calibrate on."""
        from saccade.optimize.quantization.checked import why_not_calibrated
        from saccade.optimize.quantization.nncf_ir import NncfOpenVino

        config = context.config
        if config.model.format != "openvino_ir":
            return f"the model is in {config.model.format} format; this is for OpenVINO IRs"
        if not is_float(config):
            return f"the model's weights are stored as {config.model.stored}"
        if not Path(config.model.path).is_file():
            return "the model's file is not there"
        missing = NncfOpenVino.missing()
        if missing is not None:
            return f"{missing} is not installed (pip install 'saccade[openvino]')"
        if "int8" not in context.runtimes[config.runtime].precisions:
            return f"{config.runtime} has no fast int8 on this CPU"
        return why_not_calibrated(context)

    def predict(self, context: PlanContext) -> Prediction:
        """By the measured peaks of this machine, else by a prior."""
        prediction = precision_prediction(context, "int8", bytes_factor=0.5, cost_s=COST_S)
        shrinks = {"model_mb": SIZE / LARGER[context.config.model.stored]}
        return replace(prediction, odds=ODDS, shrinks=shrinks)

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Quantize in a process of its own; the few layers that stay float run in fp32."""
        from saccade.optimize.ir_quantization import quantize_ir

        config = context.config
        options = replace(config.options, precision="fp32")
        return replace(config, options=options, model=quantize_ir(context, self.recipe))

    def details(self, context: PlanContext) -> dict[str, Any]:
        """What was noticed on the way: on how many images, and doubts about them."""
        from saccade.optimize.ir_quantization import quantized_path
        from saccade.optimize.quantization.make import details_of

        return details_of(quantized_path(context, self.recipe))
