"""Run the model in another inference runtime, in its fastest precision that is harmless."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from saccade.models.conversions.contract import way_from
from saccade.optimize.change import Effect, PlanContext, Prediction, StepByStep, Tried, by_stage
from saccade.optimize.converting import converted
from saccade.optimize.float_model import float_config
from saccade.optimize.precision_gain import precision_prediction
from saccade.optimize.real_inputs import conversion_request
from saccade.pipeline.config import ModelFile, PipelineConfig, Precision
from saccade.pipeline.pipeline import letterbox_of

# Inference time relative to ONNX Runtime in the same precision. Priors, from small detectors on
# x86; the trial measures what is true here.
RELATIVE_TIME = {
    "onnxruntime": 1.0,
    "openvino": 0.85,
    "torch": 2.5,
    "litert": 0.9,
    "ncnn": 1.2,
    "executorch": 0.95,
    "onnxruntime-cuda": 0.1,
    "onnxruntime-tensorrt": 0.07,
    "torch-cuda": 0.15,
    "tensorrt": 0.06,
}
# Peak memory of the process relative to ONNX Runtime's, priors from YOLOX-nano and MobileNetV2.
RELATIVE_MEMORY = {"onnxruntime": 1.0, "openvino": 1.3, "torch": 2.5}
# Formats that are a user's own model wherever they run; others were made for one runtime.
ORIGINALS = ("onnx", "torch_export")
# Fastest first; each rounds a little.
HARMLESS: tuple[Precision, ...] = ("fp16", "bf16")
BEST_CASE = 0.5
# To convert a model and compare the answers, where another format is needed.
CONVERSION_S = 12.0


@dataclass(frozen=True)
class SwitchRuntime(StepByStep):
    """Another runtime.

    Where it has bf16 on this CPU, that is part of the switch: the runtime alone may gain less
    than can be told from noise, and would then never open the way to its precision. Where bf16
    costs accuracy, the runtime is tried in fp32.
    """

    name: ClassVar[str] = "runtime"
    effect: ClassVar[Effect] = "near_lossless"

    runtime: str
    precision: Precision = "fp32"

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """Every other runtime, in its fastest harmless precision; int8 files leave no choice."""
        fixed = context.config.model.quantized
        for name, available in context.runtimes.items():
            if name != context.config.runtime:
                yield cls(name, "fp32" if fixed else _harmless(available.precisions))

    def next_rung(self, tried: Sequence[Tried], context: PlanContext) -> SwitchRuntime | None:
        """The same runtime in fp32."""
        return SwitchRuntime(self.runtime) if self.precision != "fp32" else None

    @property
    def label(self) -> str:
        """Name, runtime and precision."""
        return f"runtime: {self.runtime} {self.precision}"

    def applies(self, context: PlanContext) -> str | None:
        """It must be installed and take the model's format.

        A file that was quantized here is written for one runtime's kernels; one that came
        quantized belongs to none, and any that reads it may be the fastest.
        """
        available = context.runtimes[self.runtime]
        if self.runtime == context.config.runtime:
            return "already in use"
        if not available.ok:
            return f"{self.runtime} is {available.detail}"
        if context.config.model.quantized and float_config(context) is not None:
            return f"the model was quantized for {context.config.runtime}"
        if context.config.shape == "rect" and not available.dynamic:
            return f"{self.runtime} needs one input shape, and the letterbox follows the frame"
        reason = self._why_not_convert(context)
        if reason is not None:
            return reason
        if self.precision not in available.precisions:
            return f"{self.runtime} has no {self.precision} here"
        return None

    def _why_not_convert(self, context: PlanContext) -> str | None:
        kind, taken = context.config.model.format, context.runtimes[self.runtime].formats
        if kind in ORIGINALS and kind in taken:
            return None
        if context.config.model.quantized:
            return "the model came quantized, and conversions start from a float model"
        # Other formats that a runtime takes are converted files: made for the one in use.
        conversion = way_from(self._start(context), taken)
        if conversion is None:
            return f"the model is in {kind} format"
        return conversion.why_not()

    def predict(self, context: PlanContext) -> Prediction:
        """By priors on the runtime and, for bf16, the measured peaks of this machine."""
        here = RELATIVE_TIME.get(context.config.runtime, 1.0)
        factor = RELATIVE_TIME.get(self.runtime, 1.0) / here
        basis = "prior for this pair of runtimes"
        alone = by_stage(context, {"infer": factor}, basis, {"infer": factor * BEST_CASE})
        taken = context.runtimes[self.runtime].formats
        cost_s = 0.0 if context.config.model.format in taken else CONVERSION_S
        alone = replace(alone, shrinks=self._shrinks(context), cost_s=cost_s)
        if self.precision == context.config.options.precision:
            return alone
        lower = precision_prediction(context, self.precision, bytes_factor=0.5)
        return replace(
            alone,
            gain=alone.gain * lower.gain,
            bound=alone.bound * lower.bound,
            basis=f"{basis}; {lower.basis}",
        )

    def _shrinks(self, context: PlanContext) -> dict[str, float]:
        here = RELATIVE_MEMORY.get(context.config.runtime, 1.0)
        ratio = RELATIVE_MEMORY.get(self.runtime, 1.0) / here
        return {"peak_rss_mb": ratio} if ratio < 1 else {}

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Swap runtime and precision, converting the model where it must be."""
        config = context.config
        options = replace(
            config.options, precision=self.precision, graph_level="default", channels_last=False
        )
        model = self._model(context)
        return replace(config, runtime=self.runtime, options=options, model=model)

    def _model(self, context: PlanContext) -> ModelFile:
        config, taken = context.config, context.runtimes[self.runtime].formats
        if config.model.format in taken:
            return config.model
        request = conversion_request(context, self.runtime)
        return converted(self._start(context), taken, request)

    def _start(self, context: PlanContext) -> ModelFile:
        """The model to convert. A program of one size makes no other; its ONNX may be given one."""
        config = context.config
        if context.runtimes[self.runtime].dynamic or config.description.input.dynamic:
            return config.model
        in_use = letterbox_of(config, context.frame_hw).input_hw
        own = in_use == config.description.own_hw
        return config.model if own else replace(config.model, program=None)


def _harmless(precisions: tuple[str, ...]) -> Precision:
    return next((precision for precision in HARMLESS if precision in precisions), "fp32")
