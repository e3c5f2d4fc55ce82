"""Let the model teach a smaller one that the user names, and put that in its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from saccade.optimize.change import Effect, Ordinary, PlanContext, Prediction, Student, by_stage
from saccade.optimize.changes.model_swap import BEST_POWER, FLOPS_POWER, model_flops
from saccade.optimize.distill import Lesson
from saccade.optimize.float_model import is_float, why_not_rounded_again
from saccade.optimize.training_frames import MIN_IMAGES
from saccade.pipeline.config import PipelineConfig

# The race before training, export and conversion; training comes on top.
COST_S = 30.0
# Priors: a trained student has to learn one teacher's ways only, from frames that are few.
ODDS_TRAINED, ODDS_UNTRAINED = 0.3, 0.1
# Users name students to see them tried, whatever the operations say.
LEAST_GAIN = 1.02
PACKAGES = ("torch", "onnxscript")


@dataclass(frozen=True)
class Distill(Ordinary):
    """A student, taught by the user's own model on calibration frames, labelled or not.

    Attributes:
        student: its name.
        sha256: of the program that it begins as.
    """

    name: ClassVar[str] = "distill"
    effect: ClassVar[Effect] = "lossy"

    student: str
    sha256: str

    @classmethod
    def variants(cls, context: PlanContext) -> Iterable[Self]:
        """Every student."""
        return [cls(s.name, s.model.sha256) for s in context.students]

    @property
    def label(self) -> str:
        """Name and student."""
        return f"{self.name}: {self.student}"

    def applies(self, context: PlanContext) -> str | None:
        """Needs PyTorch, a float model to start from, and frames to learn from."""
        from importlib.util import find_spec

        from saccade.models.conversions.contract import conversion_to

        missing = [name for name in PACKAGES if find_spec(name) is None]
        if missing:
            return f"{' and '.join(missing)} not installed (pip install 'saccade[torch]')"
        if context.teacher is None:
            return "there is no model to teach it"
        reason = why_not_rounded_again(context)
        if reason is not None:
            return reason
        if self._in_use(context):
            return "already in use"
        kind = _float_format(context)
        if kind != "torch_export" and not conversion_to("torch_export", (kind,)):
            return f"a student cannot be made into {kind}"
        if not context.video and len(context.calibration or ()) < MIN_IMAGES:
            return f"there are fewer than {MIN_IMAGES} images to learn from"
        return None

    def _in_use(self, context: PlanContext) -> bool:
        from saccade.optimize.students import default_settings, taught_path

        student = self._of(context)
        target = taught_path(context, student, default_settings(student, context.seed))
        model = (context.unquantized or context.config).model
        used = context.config.model if is_float(context.config) else model
        return str(target) in (used.path, used.program)

    def predict(self, context: PlanContext) -> Prediction:
        """By the operations that both ask for, and the time that teaching may take."""
        student = self._of(context)
        cost_s = COST_S + student.training_s
        odds = ODDS_TRAINED if student.trained else ODDS_UNTRAINED
        then = model_flops(student.graph, student.description.own_hw)
        now = _operations_now(context)
        if not now or not then:
            basis = "named by the user"
            return Prediction(LEAST_GAIN, 3.0, basis, cost_s, odds)
        ratio = then / now
        found = by_stage(
            context,
            {"infer": ratio**FLOPS_POWER},
            f"operations: {then / 1e9:.2f} of {now / 1e9:.2f} GFLOPs",
            {"infer": min(ratio**FLOPS_POWER, ratio**BEST_POWER)},
        )
        gain = max(LEAST_GAIN, found.gain)
        smaller = student.graph.size_mb / max(1e-6, context.config.model.size_mb)
        shrinks = {"model_mb": smaller} if is_float(context.config) and smaller < 1 else {}
        return replace(
            found,
            gain=gain,
            bound=max(gain, found.bound),
            cost_s=cost_s,
            odds=odds,
            shrinks=shrinks,
        )

    def apply(self, context: PlanContext) -> PipelineConfig:
        """Race it, teach it, put it in place.

        Raises:
            ChangeRefused: it is not faster.
            ModelError: it cannot be taught.
        """
        from saccade.optimize.students import taught

        return taught(context, self._of(context))

    def unrounded(self, context: PlanContext) -> PipelineConfig:
        """What `apply` gives, before it is rounded as the model in use was."""
        from saccade.optimize.students import taught_float

        return taught_float(context, self._of(context))

    def details(self, context: PlanContext) -> dict[str, Any]:
        """The lesson: how long, on what, how far it came."""
        from saccade.optimize.students import default_settings, record_of, taught_path

        student = self._of(context)
        return record_of(taught_path(context, student, default_settings(student, context.seed)))

    def remark(self, context: PlanContext) -> str:
        """How it was taught, for the trial's reason."""
        found = self.details(context)
        began = "" if found.get("began_trained") else ", from random weights"
        return f"{self.student} was {Lesson(**found['lesson'])}{began}" if found else ""

    def _of(self, context: PlanContext) -> Student:
        return next(s for s in context.students if s.model.sha256 == self.sha256)


def _float_format(context: PlanContext) -> str:
    before = context.config if is_float(context.config) else context.unquantized
    assert before is not None
    return before.model.format


def _operations_now(context: PlanContext) -> float:
    """Operations of the teacher, counted in its ONNX form; 0 where that is not at hand."""
    from saccade.models.conversions.contract import ConversionRequest, converted_path
    from saccade.models.files import model_file

    teacher = context.teacher
    assert teacher is not None
    hw = teacher.description.own_hw
    if teacher.model.format == "onnx":
        return model_flops(teacher.model, hw)
    request = ConversionRequest(context.folder, hw, np.empty(0, np.float32))
    made = converted_path(teacher.model, request, ".onnx")
    return model_flops(model_file(made), hw) if made.is_file() else 0.0
