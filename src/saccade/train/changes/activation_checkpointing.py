"""Activations computed again in the backward pass: slower, and in less memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from saccade.train.change import Effect, OneVariant, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.memory import activations_mb, is_short, shrinking
from saccade.train.predicting import predicted

# Share of the activations that is not kept; a third to a half was measured (decision 0031).
SAVED = 0.4


@dataclass(frozen=True)
class ActivationCheckpointing(OneVariant):
    """Blocks keep their inputs only, where memory is short."""

    name: ClassVar[str] = "activation_checkpointing"
    part: ClassVar[Part] = "compute"

    @property
    def effect(self) -> Effect:
        """The same numbers, up to kernels that do not repeat themselves."""
        return "near_lossless"

    def applies(self, context: TrainingContext) -> str | None:
        """Where memory is short, or a batch was divided to make it fit."""
        if context.config.compute.checkpointing:
            return "already on"
        if context.profile.model.blocks == 0:
            return "the model has no blocks (nn.Sequential, items of nn.ModuleList)"
        if not is_short(context):
            return "memory is not short, and it would only be slower"
        return None

    def predict(self, context: TrainingContext) -> Prediction:
        """A second forward pass in the place of most activations."""
        block = context.profile.block
        slower = block.wall_s / (block.wall_s + sum(block.part_s["forward"]))
        shrinks = shrinking(context, SAVED * activations_mb(context))
        return predicted(
            context, slower, "a second forward pass, for room in memory", shrinks=shrinks
        )

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Turn it on."""
        return context.config.with_compute(checkpointing=True)
