"""More samples to a step, with the learning rate raised for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self, get_args

from saccade.train.change import Effect, Part, Prediction, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.memory import capacity_mb, peak_shrinks, predicted_peak_mb
from saccade.train.predicting import gain_of, predicted

Scaling = Literal["linear", "sqrt"]
FACTORS = (2, 4)
# With fewer steps to an epoch hardly anything is learnt.
FEWEST_STEPS = 2
# Share of a step that does not depend on how many samples it has, where nothing is measured.
FIXED_SHARE = 0.05


@dataclass(frozen=True)
class LargerBatch:
    """The effective batch several times as large; only where the user allows ``batch``.

    The learning rate grows with the batch (Goyal et al., "Accurate, Large Minibatch SGD", 2017) or
    with its root, which suits Adam (Malladi et al., "On the SDEs and Scaling Rules for Adaptive
    Gradient Algorithms", NeurIPS 2022). It is another recipe: only the metric can judge it.

    Attributes:
        size: samples of a forward pass afterwards.
        scaling: of the learning rate.
    """

    size: int
    scaling: Scaling
    name: ClassVar[str] = "larger_batch"
    part: ClassVar[Part] = "batch"

    @property
    def effect(self) -> Effect:
        """Fewer and larger steps."""
        return "lossy"

    @classmethod
    def variants(cls, context: TrainingContext) -> Iterable[Self]:
        """Two and four times as large, by both rules."""
        size = context.config.batch.size
        return [cls(size * n, rule) for n in FACTORS for rule in get_args(Scaling)]

    @property
    def label(self) -> str:
        """Name, size and rule."""
        return f"{self.name} {self.size}, learning rate {self.scaling}"

    def applies(self, context: TrainingContext) -> str | None:
        """Where it is allowed, there are samples for it, and it is expected to fit."""
        config = context.config
        if "batch" not in context.allow:
            return "the effective batch is part of the recipe (allow it with --allow batch)"
        if config.batch.size >= self.size:
            return f"the batch has {config.batch.size} samples already"
        samples = context.profile.facts.samples
        whole = self.size * config.batch.accumulation * config.scale.world
        if whole > samples // FEWEST_STEPS:
            return f"an epoch of {samples} samples would have fewer than {FEWEST_STEPS} steps"
        found = predicted_peak_mb(context, self.apply(context))
        if found is not None and found > capacity_mb(context):
            return f"it would need about {found:.0f} MB, and there are {capacity_mb(context):.0f}"
        return None

    def predict(self, context: TrainingContext) -> Prediction:
        """What a step takes beside its samples is spread over more of them."""
        factor = self._factor(context)
        overhead = 1 - 1 / factor
        busy = context.profile.synthetic.device_busy_share
        idle = FIXED_SHARE if busy is None else max(FIXED_SHARE, 1 - busy)
        gain = gain_of(context, 1 / (1 - overhead * idle))
        found = predicted(context, gain, f"{factor:g} times the samples to a step", odds=0.5)
        return replace(found, shrinks=peak_shrinks(context, self.apply(context)))

    def _factor(self, context: TrainingContext) -> float:
        return self.size / context.config.batch.size

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Enlarge the batch and raise the learning rate."""
        factor = self._factor(context)
        raised = factor if self.scaling == "linear" else factor**0.5
        scale = context.config.batch.learning_rate_scale * raised
        return context.config.with_batch(size=self.size, learning_rate_scale=scale)
