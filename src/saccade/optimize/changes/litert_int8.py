"""Quantize a LiteRT model to full-integer int8."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from saccade.optimize.change import Effect, Ordinary, PlanContext, Prediction, Tried
from saccade.optimize.litert_recipe import LiteRtRecipe, Ports, Ranges
from saccade.optimize.precision_gain import precision_prediction
from saccade.optimize.quantization.ladder import FIRST, PAYING
from saccade.optimize.quantization.recipe import Sensitive
from saccade.pipeline.config import PipelineConfig

# Bias correction layer by layer, and some tens of images calibrated one by one.
COST_S = 45.0
# Equal steps of an int8 output cost classifiers about a point more.
ODDS = {"float": 0.5, "int8": 0.3}
# Ranges to try, one after the other, where accuracy breaks.
RANGES: tuple[Ranges, ...] = ("mean", "inner", "widest")
SENSITIVE: dict[Sensitive, str] = {
    "skip": "most sensitive layers float",
    "mixed": "mixed precision",
}
NO_FLOAT = "a full-integer file has no float layers; an Edge TPU would run none of them"
# Rungs of other runtimes' ladders that this one lacks.
CLOSED = (
    (PAYING, "LiteRT does not say how long each layer takes"),
    ("bias correction", "every setting has it"),
    ("equalization", "it is made in ONNX graphs only, and .tflite files are made without"),
    (
        "quantization-aware training",
        "NNCF's trained quantizers can be written for OpenVINO and ONNX Runtime, not as .tflite",
    ),
)


@dataclass(frozen=True)
class QuantizeLiteRt(Ordinary):
    """AI Edge Quantizer: int8 weights per channel and int8 activations, ranges from real frames.

    Attributes:
        ports: type of input and outputs; the Edge TPU takes int8, phones either.
        ranges: how the ranges of single images make the range of a tensor.
        sensitive: what happens to the layers that int8 disturbs most.
        rung: step of the repair ladder that this belongs to.
    """

    name: ClassVar[str] = "litert_int8"
    effect: ClassVar[Effect] = "near_lossless"

    ports: Ports = "float"
    ranges: Ranges = RANGES[0]
    sensitive: Sensitive = "none"
    rung: str = FIRST

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """The first step of both kinds; the search climbs further where accuracy asks for it."""
        return [cls("float"), cls("int8")]

    @property
    def label(self) -> str:
        """Name, ranges, what stays float, and type of input and outputs."""
        return f"{self.name}: {self._recipe.label}"

    @property
    def _recipe(self) -> LiteRtRecipe:
        return LiteRtRecipe(self.ports, self.ranges, self.sensitive)

    def next_rung(self, tried: Sequence[Tried], context: PlanContext) -> QuantizeLiteRt | None:
        """What to try when this one costs too much accuracy; None at the top."""
        done = [one.change for one in tried] or [self]
        return next((step for step in self._steps(tried) if step not in done), None)

    def _steps(self, tried: Sequence[Tried]) -> Iterator[QuantizeLiteRt]:
        """The whole ladder; from the ranges that cost least, more and more stays float."""
        first = QuantizeLiteRt(self.ports)
        for ranges in RANGES[1:]:
            yield replace(first, ranges=ranges, rung="other range estimators")
        if self.ports == "int8":
            return
        below = [one for one in tried if one.change.sensitive == "none"]
        # Of equals the first: `min` keeps to the order in which they were tried.
        best: Any = min(below, key=lambda one: one.drop).change if below else first
        for sensitive, rung in SENSITIVE.items():
            yield replace(first, ranges=best.ranges, sensitive=sensitive, rung=rung)

    def closed_rungs(self, context: PlanContext) -> Sequence[tuple[str, str]]:
        """What ladders of other runtimes have besides, and why this one does not."""
        closed = [(rung, NO_FLOAT) for rung in SENSITIVE.values() if self.ports == "int8"]
        return (*CLOSED, *closed)

    def applies(self, context: PlanContext) -> str | None:
        """Needs a float model in LiteRT's format, the quantizer, and frames to calibrate on."""
        from importlib.util import find_spec

        from saccade.optimize.quantization.checked import why_not_calibrated

        config = context.config
        if config.runtime != "litert" or config.model.format != "tflite":
            return f"the model runs in {config.runtime}; switch to LiteRT first"
        if config.model.quantized:
            return "the model is quantized already"
        if find_spec("ai_edge_quantizer") is None:
            return "ai-edge-quantizer is not installed (pip install 'saccade[litert]')"
        return why_not_calibrated(context)

    def predict(self, context: PlanContext) -> Prediction:
        """By the measured peaks of this machine, else by a prior."""
        prediction = precision_prediction(context, "int8", bytes_factor=0.25, cost_s=COST_S)
        return replace(prediction, odds=ODDS[self.ports])

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Quantize in a process of its own and point the configuration at the new file."""
        from saccade.optimize.litert_quantization import quantize_litert

        return replace(context.config, model=quantize_litert(context, self._recipe))

    def details(self, context: PlanContext) -> dict[str, Any]:
        """What was measured on the way: sensitivity per layer, what stayed float, doubts."""
        from saccade.optimize.litert_quantization import quantized_path
        from saccade.optimize.quantization.make import details_of

        return details_of(quantized_path(context, self._recipe))
