"""Quantize a LiteRT model to full-integer int8."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from saccade.optimize.change import Effect, PlanContext, Prediction, StepByStep, Tried
from saccade.optimize.precision_gain import precision_prediction
from saccade.pipeline.config import PipelineConfig

if TYPE_CHECKING:
    from saccade.optimize.litert_quantization import Ports, Ranges

# Some tens of images, each calibrated alone.
COST_S = 20.0
ODDS = 0.5
# What to try, one after the other, where accuracy breaks: other ranges, then floats at the ends.
LADDER: tuple[tuple[Ranges, Ports], ...] = (
    ("mean", "int8"),
    ("inner", "int8"),
    ("widest", "int8"),
    ("mean", "float"),
)


@dataclass(frozen=True)
class QuantizeLiteRt(StepByStep):
    """AI Edge Quantizer: int8 weights per channel and int8 activations, ranges from real frames.

    Attributes:
        step: of `LADDER`.
    """

    name: ClassVar[str] = "litert_int8"
    effect: ClassVar[Effect] = "near_lossless"

    step: int = 0

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """The first step; the search climbs further where accuracy asks for it."""
        return [cls()]

    @property
    def label(self) -> str:
        """Name, ranges and type of input and outputs."""
        ranges, ports = LADDER[self.step]
        return f"{self.name}: {ranges} ranges, {ports} input and outputs"

    def next_rung(self, tried: Sequence[Tried], context: PlanContext) -> QuantizeLiteRt | None:
        """What to try when this one costs too much accuracy; None at the top."""
        return QuantizeLiteRt(self.step + 1) if self.step + 1 < len(LADDER) else None

    def applies(self, context: PlanContext) -> str | None:
        """Needs a float model in LiteRT's format, the quantizer, and frames to calibrate on."""
        from importlib.util import find_spec

        config = context.config
        if config.runtime != "litert" or config.model.format != "tflite":
            return f"the model runs in {config.runtime}; switch to LiteRT first"
        if config.model.quantized:
            return "the model is quantized already"
        if find_spec("ai_edge_quantizer") is None:
            return "ai-edge-quantizer is not installed (pip install 'saccade[litert]')"
        if not context.calibration and not context.video:
            return "there are no images to calibrate on"
        if context.calibration is not None and len(context.calibration) == 1:
            return "there is a single image to calibrate on; give some tens of the usual kind"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """By the measured peaks of this machine, else by a prior."""
        prediction = precision_prediction(context, "int8", bytes_factor=0.25, cost_s=COST_S)
        return replace(prediction, odds=ODDS)

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Quantize in a process of its own and point the configuration at the new file."""
        from saccade.optimize.litert_quantization import quantize_litert

        ranges, ports = LADDER[self.step]
        return replace(context.config, model=quantize_litert(context, ranges, ports))
