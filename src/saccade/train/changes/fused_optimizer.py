"""All weights updated in one pass, instead of one operation after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from saccade.train.change import Effect, OneVariant, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.predicting import gain_of, predicted

# Adam on a few million parameters, against its loop over parameters.
FASTER = 2.5


@dataclass(frozen=True)
class FusedOptimizer(OneVariant):
    """The job's own optimizer with ``fused=True``."""

    name: ClassVar[str] = "fused_optimizer"
    part: ClassVar[Part] = "compute"

    @property
    def effect(self) -> Effect:
        """The same update, rounded in other places."""
        return "near_lossless"

    def applies(self, context: TrainingContext) -> str | None:
        """Where the optimizer has such a form and does not use it; tried where nobody knows."""
        if context.config.compute.fused_optimizer:
            return "already on"
        facts = context.profile.model
        if facts.fusable is False:
            return f"{facts.optimizer or 'the optimizer'} has no fused form, or uses it already"
        return None

    def predict(self, context: TrainingContext) -> Prediction:
        """The optimizer's part of a step shrinks."""
        gain = gain_of(context, FASTER, ("optimizer",))
        block = context.profile.block
        rest = block.wall_s - sum(block.part_s["optimizer"])
        bound = block.wall_s / max(rest, 1e-9)
        share = block.share("optimizer")
        return predicted(context, gain, f"updates take {share:.0%} of a step", bound=bound)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Turn it on."""
        return context.config.with_compute(fused_optimizer=True)
