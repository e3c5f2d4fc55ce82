"""Run the model in another inference runtime."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from saccade.optimize.change import Effect, PlanContext, Prediction, by_stage
from saccade.pipeline.config import PipelineConfig

# Inference time relative to ONNX Runtime in the same precision. Priors, from small detectors on
# x86; the trial measures what is true here.
RELATIVE_TIME = {"onnxruntime": 1.0, "openvino": 0.85}
BEST_CASE = 0.5


@dataclass(frozen=True)
class SwitchRuntime:
    """Another runtime, same arithmetic."""

    name: ClassVar[str] = "runtime"
    effect: ClassVar[Effect] = "near_lossless"

    runtime: str

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """Every other runtime."""
        return [cls(name) for name in context.runtimes if name != context.config.runtime]

    @property
    def label(self) -> str:
        """Name and runtime."""
        return f"runtime: {self.runtime}"

    def applies(self, context: PlanContext) -> str | None:
        """It must be installed and take the model's format."""
        available = context.runtimes[self.runtime]
        if not available.ok:
            return f"{self.runtime} is {available.detail}"
        if context.config.model.format != "onnx":
            return f"the model is in {context.config.model.format} format"
        if context.config.options.precision not in available.precisions:
            return f"{self.runtime} has no {context.config.options.precision} here"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """By priors on inference time."""
        factor = RELATIVE_TIME.get(self.runtime, 1.0) / RELATIVE_TIME.get(
            context.config.runtime, 1.0
        )
        return by_stage(
            context, {"infer": factor}, "prior for this pair of runtimes", {"infer": BEST_CASE}
        )

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Swap the runtime, leaving its options."""
        return replace(context.config, runtime=self.runtime)
