"""Distillation: a job whose loss also pulls the model towards a teacher's answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from saccade.errors import SpecError
from saccade.models.sources.factory import build_module
from saccade.models.torch_weights import load_weights
from saccade.optimize.distill_loss import float_outputs, output_loss
from saccade.train.job import TrainingJob


class DistillRecipe:
    """``distill``: by the job's own model as it began; ``distill=FACTORY@WEIGHTS``: by another."""

    usage: ClassVar[str] = (
        "distill, with the model before it was made smaller as the teacher, or "
        "distill=file.py:factory@weights.pt"
    )

    @staticmethod
    def apply(job: TrainingJob, original: TrainingJob, argument: str) -> TrainingJob:
        """The job of the student."""
        return distillation(job, (lambda: _teacher(argument)) if argument else original.model)


def _teacher(reference: str) -> Any:
    factory, _, weights = reference.partition("@")
    module = build_module(factory)
    if weights:
        load_weights(module, Path(weights))
    return module


class Answers(NamedTuple):
    """What a model and its teacher answer to the same batch."""

    student: Any
    teacher: Any


def distillation(job: TrainingJob, teacher: Callable[[], Any], weight: float = 0.5) -> TrainingJob:
    """The job with a teacher (Hinton et al., 2015).

    In training the model answers with `Answers`, of which the loss makes one number; when it is
    judged it answers as the job's own model does. Its weights are saved without the teacher's.

    Args:
        job: of the student.
        teacher: makes the trained teacher, which answers in the same shapes as the student.
        weight: 0-1, of the teacher's answers against the targets.

    Raises:
        SpecError: ``weight`` is no share.
    """
    if not 0 <= weight <= 1:
        raise SpecError(f"The weight of the teacher's answers is {weight}. Expected 0 to 1.")

    def loss(output: Any, target: Any) -> Any:
        if type(output) is not Answers:
            return job.loss(output, target)
        said, wanted = float_outputs(output.student), float_outputs(output.teacher)
        _check_shapes(said, wanted)
        taught = output_loss([o.float() for o in said], [o.float() for o in wanted])
        return (1 - weight) * job.loss(output.student, target) + weight * taught

    return dataclasses.replace(
        job,
        model=lambda: taught(job.model(), teacher()),
        loss=loss,
        optimizer=lambda model: job.optimizer(model.student),
        export=lambda model, example, folder: job.exporter(model.student, example, folder),
    )


def _check_shapes(said: list[Any], wanted: list[Any]) -> None:
    mine, theirs = [tuple(o.shape) for o in said], [tuple(o.shape) for o in wanted]
    if mine != theirs:
        raise SpecError(
            f"The student answers {mine}, the teacher {theirs}. They have to answer in the same "
            "shapes."
        )


def taught(student: Any, teacher: Any) -> Any:
    """A module of both. Only the student's weights are its state, and learn."""
    import torch

    class Taught(torch.nn.Module):  # type: ignore[misc]
        """Answers as the student when it is judged, as both when it learns."""

        def __init__(self) -> None:
            super().__init__()
            self.student = student
            self.teacher = teacher.eval().requires_grad_(False)

        def forward(self, *inputs: Any) -> Any:
            answer = self.student(*inputs)
            if not self.training:
                return answer
            with torch.no_grad():
                return Answers(answer, self.teacher(*inputs))

        def train(self, mode: bool = True) -> Any:
            super().train(mode)
            self.teacher.eval()
            return self

        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            return self.student.state_dict(*args, **kwargs)

        def load_state_dict(self, state: Any, *args: Any, **kwargs: Any) -> Any:
            return self.student.load_state_dict(state, *args, **kwargs)

    return Taught()
