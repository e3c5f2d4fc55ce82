"""Take channels out of a PyTorch model, where that is measured to be faster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from saccade.optimize.change import Effect, PlanContext, Prediction, StepByStep, Tried, by_stage
from saccade.optimize.distill import Lesson
from saccade.optimize.float_model import float_config, why_not_rounded_again
from saccade.optimize.training_frames import MIN_IMAGES
from saccade.pipeline.config import PipelineConfig

SHARES = (0.3, 0.5)
# The first repair when accuracy breaks.
GENTLEST = 0.15
# Operations fall with the square of the width; layers that stay and padded channels eat a part.
EXPECTED_POWER, BEST_POWER = 1.0, 2.0
# Four candidates are raced, one is trained.
COST_S = 150.0
# A prior: some dozens of frames rarely bring back what a third of the channels knew.
ODDS = 0.15
PACKAGES = ("torch", "torch_pruning")


@dataclass(frozen=True)
class Prune(StepByStep):
    """Structured pruning, the ratio chosen by measured speed, trained with its original as teacher.

    Attributes:
        share: of every layer's channels that may go at most.
    """

    name: ClassVar[str] = "prune"
    effect: ClassVar[Effect] = "lossy"

    share: float

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """Two strengths."""
        return [cls(share) for share in SHARES]

    @property
    def label(self) -> str:
        """Name and share."""
        return f"{self.name}: up to {self.share:.0%} of the channels"

    def next_rung(self, tried: Sequence[Tried], context: PlanContext) -> Prune | None:
        """The gentlest, where more costs too much accuracy."""
        return Prune(GENTLEST) if self.share > GENTLEST else None

    def applies(self, context: PlanContext) -> str | None:
        """Needs a model that comes from PyTorch, Torch-Pruning, and frames to train on."""
        from importlib.util import find_spec

        from saccade.models.conversions.contract import conversion_to, program_of
        from saccade.optimize.pruning import is_pruned

        reason = why_not_rounded_again(context)
        if reason is not None:
            return reason
        model = (float_config(context) or context.config).model
        program = program_of(model)
        if program is None:
            return f"the {model.format} file does not come straight from a PyTorch model"
        missing = [name.replace("_", "-") for name in PACKAGES if find_spec(name) is None]
        if missing:
            return f"{' and '.join(missing)} not installed (pip install 'saccade[prune]')"
        if not Path(program).is_file():
            return f"the program that the model was made from is gone ({Path(program).name})"
        if is_pruned(program):
            return "the model is pruned already"
        if model.format != "torch_export" and not conversion_to("torch_export", (model.format,)):
            return f"a pruned program cannot be made into {model.format}"
        if not context.video and len(context.calibration or ()) < MIN_IMAGES:
            return f"there are fewer than {MIN_IMAGES} images to train on"
        return None

    def predict(self, context: PlanContext) -> Prediction:
        """Between the width and its square."""
        left = 1 - self.share
        found = by_stage(
            context,
            {"infer": left**EXPECTED_POWER},
            f"{left:.0%} of the channels stay",
            {"infer": left**BEST_POWER},
        )
        return replace(found, cost_s=COST_S, odds=ODDS)

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Race candidates, train the one that pays, and round it if the model in use is rounded.

        Raises:
            ChangeRefused: none of them is faster.
            ModelError: the model cannot be pruned.
        """
        from saccade.optimize.pruning import pruned

        return pruned(context, self.share)

    def unrounded(self, context: PlanContext) -> PipelineConfig:
        """What `apply` gives, before it is rounded as the model in use was."""
        from saccade.optimize.pruning import pruned_float

        return pruned_float(context, self.share)

    def details(self, context: PlanContext) -> dict[str, Any]:
        """Every candidate's race, and the lesson of the one that was trained."""
        from saccade.optimize.pruning import record_of

        return record_of(self.unrounded(context))

    def remark(self, context: PlanContext) -> str:
        """How it was trained, for the trial's reason."""
        lesson = self.details(context).get("lesson")
        return f"the pruned model was {Lesson(**lesson)}" if lesson else ""
