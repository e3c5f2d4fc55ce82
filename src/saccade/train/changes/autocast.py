"""Convolutions and matrix products in 16 bits, sums and weights in 32."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from saccade.train.change import Effect, Part, Prediction, TrainingContext
from saccade.train.config import Precision, TrainingConfig
from saccade.train.memory import activations_mb, shrinking
from saccade.train.predicting import expected_gain, predicted

# Any of these makes bf16 faster than fp32 on a CPU; the last is Arm's.
CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
VOLTA, AMPERE = (7, 0), (8, 0)
# Share of the activations that 16 bits save; some stay in 32 (decision 0031).
SAVED = 0.4


@dataclass(frozen=True)
class Autocast:
    """``torch.autocast``, with scaled gradients where 16 bits have too small a range for them.

    On a GPU it is not verified on hardware.
    """

    kind: Precision
    name: ClassVar[str] = "autocast"
    part: ClassVar[Part] = "compute"

    @property
    def effect(self) -> Effect:
        """Activations and gradients are rounded."""
        return "near_lossless"

    @classmethod
    def variants(cls, context: TrainingContext) -> Iterable[Self]:
        """Both formats."""
        return [cls("bf16"), cls("fp16")]

    @property
    def label(self) -> str:
        """Name and format."""
        return f"{self.name} {self.kind}"

    def applies(self, context: TrainingContext) -> str | None:
        """Where the hardware computes in it."""
        if context.config.compute.precision != "fp32":
            return f"already {context.config.compute.precision}"
        if context.config.compute.device.startswith("cuda"):
            return self._on_gpu(context)
        if self.kind == "fp16":
            return "CPUs train in bf16, which needs no scaled gradients"
        if not CPU_FLAGS & context.machine.isa:
            return "slower on a CPU without bf16 instructions (avx512_bf16, amx_bf16)"
        return None

    def _on_gpu(self, context: TrainingContext) -> str | None:
        needed = {"bf16": AMPERE, "fp16": VOLTA}[self.kind]
        has = context.machine.compute_capability
        if has < needed:
            return (
                f"{self.kind} needs compute capability {needed[0]}.{needed[1]}, the GPU has "
                f"{has[0]}.{has[1]}"
            )
        return None

    def predict(self, context: TrainingContext) -> Prediction:
        """Most of it comes together with channels last."""
        gain = expected_gain(context, self.apply(context).compute)
        odds = 0.9 if self.kind == "bf16" else 0.8
        shrinks = shrinking(context, SAVED * activations_mb(context))
        return predicted(context, gain, f"convolutions in {self.kind}", odds=odds, shrinks=shrinks)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Turn it on."""
        return context.config.with_compute(precision=self.kind)
