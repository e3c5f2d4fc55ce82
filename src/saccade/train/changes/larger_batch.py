"""More samples to a step, with the learning rate raised for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from saccade.errors import OutOfMemory
from saccade.train.change import Effect, Part, Prediction, Scaling, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.fitting_batch import TRY_S, known_fit, largest_fitting
from saccade.train.memory import activations_mb, shrinking
from saccade.train.predicting import gain_of, predicted

# The rules for the learning rate were shown to hold for batches some tens of times as large.
MOST_TIMES = 32
# With fewer steps to an epoch hardly anything is learnt.
FEWEST_STEPS = 2
# A step that takes longer is not tried: a CPU gains little from such a batch.
MOST_STEP_S = 20.0
# Share of a step that does not depend on how many samples it has, where nothing is measured.
FIXED_SHARE = 0.05
# Rule → factor on the learning rate, from the factor on the batch.
RULES: dict[Scaling, Callable[[float], float]] = {
    "linear": lambda factor: factor,
    "sqrt": lambda factor: factor**0.5,
    "none": lambda factor: 1.0,
}


@dataclass(frozen=True)
class LargerBatch:
    """The effective batch several times as large; only where the user allows ``batch``.

    The learning rate grows with the batch (Goyal et al., "Accurate, Large Minibatch SGD", 2017) or
    with its root, which suits Adam (Malladi et al., "On the SDEs and Scaling Rules for Adaptive
    Gradient Algorithms", NeurIPS 2022); the user may choose, also that it stays. It is another
    recipe: only the metric can judge it.

    Batches are doubled until memory refuses one, which is tried in worker processes.

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
        """Every doubling, by the user's rule or the one that suits the optimizer."""
        rule = context.lr_scaling or usual_scaling(context.profile.model.optimizer)
        size = context.config.batch.size
        return [cls(larger, rule) for larger in doublings(size, MOST_TIMES * size)]

    @property
    def label(self) -> str:
        """Name, size and rule."""
        return f"{self.name} {self.size}, learning rate {self.scaling}"

    def applies(self, context: TrainingContext) -> str | None:
        """Where it is allowed, there are samples for it, and memory has not refused it."""
        config = context.config
        if "batch" not in context.allow:
            return "the effective batch is part of the recipe (allow it with --allow batch)"
        if config.batch.size >= self.size:
            return f"the batch has {config.batch.size} samples already"
        samples = context.profile.facts.samples
        whole = self.size * config.batch.accumulation * config.scale.world
        if whole > samples // FEWEST_STEPS:
            return f"an epoch of {samples} samples would have fewer than {FEWEST_STEPS} steps"
        block = context.profile.synthetic
        step_s = block.wall_s / block.samples * self.size * config.batch.accumulation
        if step_s > MOST_STEP_S:
            return f"a step would take about {step_s:.0f} s, too long to try it"
        if known_fit(context).says(self.size) is False:
            return "it does not fit into memory: it was tried"
        return None

    def predict(self, context: TrainingContext) -> Prediction:
        """What a step takes beside its samples is spread over more of them."""
        factor = self._factor(context)
        overhead = 1 - 1 / factor
        busy = context.profile.synthetic.device_busy_share
        idle = FIXED_SHARE if busy is None else max(FIXED_SHARE, 1 - busy)
        gain = gain_of(context, 1 / (1 - overhead * idle))
        cost_s = 0.0 if known_fit(context).says(self.size) else TRY_S
        basis = f"{factor:g} times the samples to a step"
        shrinks = shrinking(context, (1 - factor) * activations_mb(context))
        return predicted(context, gain, basis, cost_s, odds=0.5, shrinks=shrinks)

    def _factor(self, context: TrainingContext) -> float:
        return self.size / context.config.batch.size

    def _enlarged(self, context: TrainingContext) -> TrainingConfig:
        raised = RULES[self.scaling](self._factor(context))
        scale = context.config.batch.learning_rate_scale * raised
        return context.config.with_batch(size=self.size, learning_rate_scale=scale)

    def apply(self, context: TrainingContext) -> TrainingConfig:
        """Enlarge the batch and raise the learning rate, where memory is found to suffice.

        Raises:
            OutOfMemory: it does not fit; what does is remembered.
            SaccadeError: a try failed for another reason than memory.
        """
        config = context.config
        sizes = [*doublings(config.batch.size, self.size - 1), self.size]
        found = largest_fitting(context, sizes, lambda size: config.with_batch(size=size))
        if found != self.size:
            raise OutOfMemory(
                f"A batch of {self.size} samples does not fit into memory; the largest that does "
                f"is {found or config.batch.size}. Use that, or free memory.",
                self.size,
            )
        return self._enlarged(context)

    def milder(self, context: TrainingContext) -> Self | None:
        """Half as large, for where this one learns worse; None where that is no larger batch."""
        half = self.size // 2
        return replace(self, size=half) if half > context.config.batch.size else None


def doublings(size: int, most: int) -> list[int]:
    """Twice ``size``, four times, and so on, up to ``most``."""
    found = []
    while (size := 2 * size) <= most:
        found.append(size)
    return found


def usual_scaling(optimizer: str | None) -> Scaling:
    """The rule that suits an optimizer, by its class name; the careful one where it is unknown."""
    return "linear" if optimizer is not None and "sgd" in optimizer.casefold() else "sqrt"
