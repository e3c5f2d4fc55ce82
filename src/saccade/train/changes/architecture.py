"""Another architecture in the place of the job's own model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from saccade import plugins
from saccade.train.change import Effect, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.predicting import gain_of, predicted


@dataclass(frozen=True)
class ChangeArchitecture:
    """The job's model, changed before it is trained; only where the user allows ``model``.

    Attributes:
        kind: plug-in name of the change.
    """

    kind: str
    name: ClassVar[str] = "architecture"
    part: ClassVar[Part] = "model"

    @property
    def effect(self) -> Effect:
        """It is another model."""
        return "lossy"

    @classmethod
    def variants(cls, context: TrainingContext) -> Iterable[Self]:
        """One for each plug-in."""
        return [cls(name) for name in plugins.names("architectures")]

    @property
    def label(self) -> str:
        """Name and kind."""
        return f"{self.name} {self.kind}"

    def applies(self, context: TrainingContext) -> str | None:
        """Where it is allowed and there is something to change."""
        if "model" not in context.allow:
            return "the model is the user's choice (allow others with --allow model)"
        if context.config.model_change:
            return f"the model is changed already ({context.config.model_change})"
        found = plugins.load("architectures", self.kind)
        if found.needs_dense and context.profile.model.dense_convolutions == 0:
            return "the model has no dense convolutions of 3×3 or more"
        reason: str | None = found.available()
        return reason

    def predict(self, context: TrainingContext) -> Prediction:
        """From what the kind usually brings to forward and backward passes."""
        found = plugins.load("architectures", self.kind)
        gain = gain_of(context, found.expected_gain, ("forward", "backward"))
        return predicted(context, gain, found.basis, odds=0.3)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Name it in the configuration."""
        return replace(context.config, model_change=self.kind)
