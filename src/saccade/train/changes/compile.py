"""`torch.compile`: operators fused, layouts chosen, Python left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from saccade.train.change import Effect, Part, Prediction, TrainingContext
from saccade.train.compiling import WITHOUT_GRAPHS, is_warm, why_not_compiled
from saccade.train.config import TrainingConfig
from saccade.train.predicting import expected_gain, predicted

# What compiling takes for each layer with weights, forward and backward, on one or two cores, and
# what is left of it where compiled code is found in the run folder.
SECONDS = {"default": 1.0, "reduce-overhead": 1.0, "max-autotune": 6.0}
WARM_S = 8.0
USUAL_LAYERS = 60


@dataclass(frozen=True)
class Compile:
    """The model compiled by Inductor; on a GPU also with a step recorded as a CUDA graph.

    Compiled code is kept in the run folder (`saccade.train.compiling.compiler_environment`), so
    that only the first process waits for it. On a GPU it is not verified on hardware.
    """

    mode: str
    name: ClassVar[str] = "compile"
    part: ClassVar[Part] = "compute"

    @property
    def effect(self) -> Effect:
        """Operators are fused and rounded in other places."""
        return "near_lossless"

    @classmethod
    def variants(cls, context: TrainingContext) -> Iterable[Self]:
        """The default; on a GPU also CUDA graphs, without and with tried-out kernels."""
        if not context.config.compute.device.startswith("cuda"):
            return [cls("default")]
        return [cls("default"), *map(cls, WITHOUT_GRAPHS)]

    @property
    def label(self) -> str:
        """Name and mode."""
        return f"{self.name} {self.mode}"

    def applies(self, context: TrainingContext) -> str | None:
        """Where there is what it needs, and the training is long enough to be worth the wait."""
        config = context.config
        if config.compute.compile:
            return f"already compiled ({config.compute.compile})"
        if self.mode in WITHOUT_GRAPHS and config.batch.accumulation > 1:
            return "a CUDA graph writes over gradients that are still being added up"
        if self.mode in WITHOUT_GRAPHS and config.scale.world > 1:
            return "CUDA graphs are not combined with several processes here"
        return why_not_compiled(config.compute.device)

    def predict(self, context: TrainingContext) -> Prediction:
        """Much on a CPU, where it also chooses layouts; on a GPU what the host costs."""
        gain = expected_gain(context, self.apply(context).compute)
        return predicted(context, gain, "operators are fused", cost_s=self._cost_s(context))

    def _cost_s(self, context: TrainingContext) -> float:
        if is_warm(context.folder):
            return WARM_S
        layers = context.profile.model.layers or USUAL_LAYERS
        return SECONDS[self.mode] * layers + WARM_S

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Turn it on."""
        return context.config.with_compute(compile=self.mode)
