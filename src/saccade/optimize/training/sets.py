"""Sets of changes: which go together, and the configuration that comes of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from saccade import plugins
from saccade.errors import SaccadeError
from saccade.optimize.guarded import considered, unforeseen
from saccade.train.change import Part, Prediction, TrainingChange, TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.memory import missed_goals

# A change whose gain cannot exceed this is not worth a trial.
MIN_BOUND = 1.01


@dataclass(frozen=True)
class Option:
    """A change that applies, with what it promises when it is made first.

    Attributes:
        order: place in the table of changes; sets are applied in this order.
    """

    change: TrainingChange
    prediction: Prediction
    order: int

    @property
    def label(self) -> str:
        """Of the change."""
        return self.change.label


Set = tuple[Option, ...]


def cost_of(option: Option) -> float:
    """Seconds that it takes to make, without measuring."""
    return option.prediction.cost_s


@dataclass(frozen=True)
class TrainingPlan:
    """What can be tried, most promising first, and what cannot, with the reason."""

    options: tuple[Option, ...]
    inapplicable: tuple[tuple[str, str], ...]

    def of(self, part: Part) -> tuple[Option, ...]:
        """Options of one part."""
        return tuple(o for o in self.options if o.change.part == part)

    def document(self) -> dict[str, object]:
        """JSON-ready content of ``plan.json``."""
        return {
            "changes": [
                {
                    "change": o.label,
                    "optimization": o.change.name,
                    "part": o.change.part,
                    "effect": o.change.effect,
                    "predicted_gain": o.prediction.gain,
                    "upper_bound": o.prediction.bound,
                    "basis": o.prediction.basis,
                    "cost_s": o.prediction.cost_s,
                }
                for o in self.options
            ],
            "inapplicable": [{"change": a, "reason": b} for a, b in self.inapplicable],
        }


def plan_training(context: TrainingContext) -> TrainingPlan:
    """Every variant of every change in the table that applies and may gain or save something.

    A change is planned also where it is expected to lose alone: it may pay beside another.
    """
    options: list[Option] = []
    refused: list[tuple[str, str]] = []
    for order, name in enumerate(plugins.names("training_changes")):
        for change in plugins.load("training_changes", name).variants(context):
            prediction = considered(change, context)
            if isinstance(prediction, str):
                refused.append((change.label, prediction))
                continue
            if prediction.bound < MIN_BOUND and not saves_memory(context, prediction):
                reason = f"at most {prediction.bound:.3f}x ({prediction.basis})"
                refused.append((change.label, reason))
                continue
            options.append(Option(change, prediction, order))
    options.sort(key=lambda o: -o.prediction.gain)
    return TrainingPlan(tuple(options), tuple(refused))


def saves_memory(context: TrainingContext, prediction: Prediction) -> bool:
    """Whether less memory is expected where a goal asks for less."""
    return any(prediction.shrinks.get(goal.metric, 1) < 1 for goal in missed_goals(context))


def configured(context: TrainingContext, options: Iterable[Option]) -> TrainingConfig | None:
    """The configuration with all of ``options``; None where they do not go together.

    Raises:
        SaccadeError: a change could not be made.
    """
    config = context.config
    for option in sorted(options, key=lambda o: o.order):
        here = replace(context, config=config)
        if option.change.applies(here) is not None:
            return None
        with unforeseen():
            config = option.change.apply(here)
    return config


def together(context: TrainingContext, options: Sequence[Option]) -> tuple[Option, ...]:
    """As many options as go together, the most promising first; one variant of each change."""
    chosen: list[Option] = []
    for option in options:
        if any(option.change.name == other.change.name for other in chosen):
            continue
        try:
            if configured(context, [*chosen, option]) is not None:
                chosen.append(option)
        except SaccadeError:
            continue
    return tuple(chosen)


def label_of(options: Iterable[Option]) -> str:
    """A set for people."""
    return " + ".join(o.label for o in sorted(options, key=lambda o: o.order)) or "baseline"
