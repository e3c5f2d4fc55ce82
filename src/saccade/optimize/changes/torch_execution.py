"""Run a PyTorch model in PyTorch's faster ways: layouts, half precision, traces, CUDA graphs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from saccade.optimize.change import Effect, Ordinary, PlanContext, Prediction, by_stage
from saccade.pipeline.config import PipelineConfig, Precision, RuntimeOptions

Mode = Literal["default", "torchscript", "compile", "cuda_graph"]
Ways = Mapping[tuple[Mode, Precision], tuple[float, float]]

# Inference time relative to eager fp32, and in the best case. Priors, from MobileNetV2 on x86.
ON_CPUS: Ways = {
    ("default", "fp32"): (0.65, 0.4),
    ("default", "bf16"): (0.52, 0.2),
    ("torchscript", "fp32"): (0.4, 0.2),
    ("torchscript", "bf16"): (0.35, 0.15),
    ("compile", "fp32"): (0.38, 0.2),
    ("compile", "bf16"): (0.28, 0.1),
}
# Priors without a measurement behind them, in the best case for a small model, whose kernels end
# sooner than Python can start them.
ON_GPUS: Ways = {
    ("default", "fp32"): (1.0, 0.8),
    ("default", "fp16"): (0.65, 0.3),
    ("default", "bf16"): (0.65, 0.3),
    ("torchscript", "fp32"): (0.85, 0.5),
    ("torchscript", "fp16"): (0.55, 0.2),
    ("torchscript", "bf16"): (0.55, 0.2),
    ("compile", "fp32"): (0.75, 0.35),
    ("compile", "fp16"): (0.45, 0.12),
    ("compile", "bf16"): (0.45, 0.12),
    ("cuda_graph", "fp32"): (0.6, 0.2),
    ("cuda_graph", "fp16"): (0.4, 0.1),
    ("cuda_graph", "bf16"): (0.4, 0.1),
}
RELATIVE_TIME = {"torch": ON_CPUS, "torch-cuda": ON_GPUS}
COMPILE_S = 60.0


@dataclass(frozen=True)
class ExecuteTorch(Ordinary):
    """Channels last, alone or with half precision, a frozen trace, a compiled module, a graph."""

    name: ClassVar[str] = "torch_execution"
    effect: ClassVar[Effect] = "near_lossless"

    mode: Mode
    precision: Precision

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """Every way of the runtime in use, in every precision that is fast here."""
        name = _runtime(context)
        offered = context.runtimes.get(name)
        for mode, precision in RELATIVE_TIME[name]:
            if offered is not None and precision in offered.precisions:
                yield cls(mode, precision)

    @property
    def label(self) -> str:
        """Name, way and precision."""
        way = "channels_last" if self.mode == "default" else f"{self.mode}, channels_last"
        return f"{self.name}: {way} {self.precision}"

    def applies(self, context: PlanContext) -> str | None:
        """The model must run in PyTorch, in a runtime that has this way."""
        config = context.config
        if config.runtime not in RELATIVE_TIME:
            return f"the model runs in {config.runtime}"
        if config.model.quantized:
            return "the int8 program is compiled already, in the one way that uses int8 kernels"
        if (self.mode, self.precision) not in RELATIVE_TIME[config.runtime]:
            return f"{config.runtime} has no {self.mode} in {self.precision}"
        if self.mode == "cuda_graph" and config.shape == "rect" and not context.video:
            return "images of many shapes would each need a recording of their own"
        if self._options(config) == config.options:
            return "already in use"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """By priors, relative to the way that is in use."""
        options, ways = context.config.options, RELATIVE_TIME[context.config.runtime]
        here = (1.0, 1.0)
        if options.channels_last or options.precision != "fp32":
            here = next(
                (ways[way] for way in ways if way == (options.graph_level, options.precision)),
                here,
            )
        factor, best = ways[self.mode, self.precision]
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


def _runtime(context: PlanContext) -> str:
    """The runtime whose ways there are; where the model runs in none of PyTorch's, the CPU's."""
    used = context.config.runtime
    return used if used in RELATIVE_TIME else "torch"
