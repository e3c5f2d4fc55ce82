"""Run a PyTorch model in PyTorch's faster ways: channels_last, autocast, TorchScript, compile."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from saccade.optimize.change import Effect, PlanContext, Prediction, by_stage
from saccade.pipeline.config import PipelineConfig, RuntimeOptions

Mode = Literal["default", "torchscript", "compile"]

# Inference time relative to eager fp32, and in the best case. Priors, from MobileNetV2 on x86.
RELATIVE_TIME = {
    ("default", "fp32"): (0.65, 0.4),
    ("default", "bf16"): (0.52, 0.2),
    ("torchscript", "fp32"): (0.4, 0.2),
    ("torchscript", "bf16"): (0.35, 0.15),
    ("compile", "fp32"): (0.38, 0.2),
    ("compile", "bf16"): (0.28, 0.1),
}
COMPILE_S = 60.0


@dataclass(frozen=True)
class ExecuteTorch:
    """Channels last, alone or with bf16, a frozen trace, or a compiled module."""

    name: ClassVar[str] = "torch_execution"
    effect: ClassVar[Effect] = "near_lossless"

    mode: Mode
    precision: Literal["fp32", "bf16"]

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """Every way, in every precision that is fast here."""
        offered = context.runtimes.get("torch")
        for mode in ("default", "torchscript", "compile"):
            for precision in ("fp32", "bf16"):
                if offered is not None and precision in offered.precisions:
                    yield cls(mode, precision)

    @property
    def label(self) -> str:
        """Name, way and precision."""
        way = "channels_last" if self.mode == "default" else f"{self.mode}, channels_last"
        return f"{self.name}: {way} {self.precision}"

    def applies(self, context: PlanContext) -> str | None:
        """The model must run in PyTorch."""
        config = context.config
        if config.runtime != "torch":
            return f"the model runs in {config.runtime}"
        if self._options(config) == config.options:
            return "already in use"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """By priors, relative to the way that is in use."""
        options = context.config.options
        here = (1.0, 1.0)
        if options.channels_last:
            here = RELATIVE_TIME[options.graph_level, options.precision]
        factor, best = RELATIVE_TIME[self.mode, self.precision]
        ratio, ideal = factor / here[0], min(1.0, best / here[0])
        found = by_stage(context, {"infer": ratio}, "prior for PyTorch", {"infer": ideal})
        return replace(found, cost_s=COMPILE_S if self.mode == "compile" else 0.0)

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Change the options."""
        return replace(context.config, options=self._options(context.config))

    def _options(self, config: PipelineConfig) -> RuntimeOptions:
        return replace(
            config.options, graph_level=self.mode, precision=self.precision, channels_last=True
        )
