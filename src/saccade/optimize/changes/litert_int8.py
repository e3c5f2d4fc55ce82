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

# Bias correction layer by layer, and some tens of images calibrated one by one.
COST_S = 45.0
# Equal steps of an int8 output cost classifiers about a point more.
ODDS = {"float": 0.5, "int8": 0.3}
# Ranges to try, one after the other, where accuracy breaks.
LADDER: tuple[Ranges, ...] = ("mean", "inner", "widest")


@dataclass(frozen=True)
class QuantizeLiteRt(StepByStep):
    """AI Edge Quantizer: int8 weights per channel and int8 activations, ranges from real frames.

    Attributes:
        ports: type of input and outputs; the Edge TPU takes int8, phones either.
        step: of `LADDER`.
    """

    name: ClassVar[str] = "litert_int8"
    effect: ClassVar[Effect] = "near_lossless"

    ports: Ports = "float"
    step: int = 0

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """The first step of both kinds; the search climbs further where accuracy asks for it."""
        return [cls("float"), cls("int8")]

    @property
    def label(self) -> str:
        """Name, ranges and type of input and outputs."""
        return f"{self.name}: {LADDER[self.step]} ranges, {self.ports} input and outputs"

    def next_rung(self, tried: Sequence[Tried], context: PlanContext) -> QuantizeLiteRt | None:
        """What to try when this one costs too much accuracy; None at the top."""
        if self.step + 1 == len(LADDER):
            return None
        return replace(self, step=self.step + 1)

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
        return replace(prediction, odds=ODDS[self.ports])

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Quantize in a process of its own and point the configuration at the new file."""
        from saccade.optimize.litert_quantization import quantize_litert

        model = quantize_litert(context, LADDER[self.step], self.ports)
        return replace(context.config, model=model)
