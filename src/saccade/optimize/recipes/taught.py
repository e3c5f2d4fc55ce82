"""Distillation: a job whose loss also pulls the model towards a teacher's answers and features."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from saccade.errors import SpecError
from saccade.models.sources.factory import build_module
from saccade.models.torch_weights import load_weights
from saccade.optimize.distill import Distillation
from saccade.optimize.distill_loss import (
    AttentionPairs,
    attention_loss,
    attention_pairs,
    float_outputs,
    output_loss,
    recorded,
)
from saccade.optimize.recipes.pruned import first_samples
from saccade.train.job import TrainingJob

# Of the features, relative to the answers, as where students are taught without a training job.
ATTENTION_WEIGHT = Distillation.attention_weight


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
    """What a model and its teacher answer to the same batch, and how far apart they look.

    Attributes:
        attention: the distance of their features, a scalar; 0 where no layers are compared.
    """

    student: Any
    teacher: Any
    attention: Any


def distillation(job: TrainingJob, teacher: Callable[[], Any], weight: float = 0.5) -> TrainingJob:
    """The job with a teacher: of its answers (Hinton et al., 2015), and of where it looks.

    The latter is attention transfer (Zagoruyko and Komodakis, ICLR 2017) between layers that work
    at the same resolution; where there are none, the answers alone are taught, and the model's
    `remark` says so.

    In training the model answers with `Answers`, of which the loss makes one number; when it is
    judged it answers as the job's own model does. Its weights are saved without the teacher's.

    Args:
        job: of the student.
        teacher: makes the trained teacher, which answers in the same shapes as the student.
        weight: 0-1, of all that the teacher teaches against the targets.

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
        taught = taught + ATTENTION_WEIGHT * output.attention
        return (1 - weight) * job.loss(output.student, target) + weight * taught

    def model() -> Any:
        student, master = job.model(), teacher()
        return with_teacher(student, master, _pairs(job, student, master))

    return dataclasses.replace(
        job,
        model=model,
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


def _pairs(job: TrainingJob, student: Any, teacher: Any) -> AttentionPairs:
    """Layers to compare, the same ones each time: by the job's first samples."""
    import torch
    from torch.utils import _pytree

    device = next((p.device for p in student.parameters()), torch.device("cpu"))
    example = _pytree.tree_map_only(torch.Tensor, lambda t: t.to(device), first_samples(job))
    # Statistics and random numbers stay as they are; `make_model` sets the mode afterwards.
    with torch.random.fork_rng(devices=[]):
        return attention_pairs(student.eval(), teacher.to(device).eval(), example)


def remark_on(pairs: AttentionPairs) -> str:
    """What is learnt from the teacher, in words."""
    named = [f"{a} as {b}" for a, b in zip(pairs.student, pairs.teacher, strict=True)]
    if named:
        return f"from the teacher's answers and features (layers: {', '.join(named)})"
    return (
        "from the teacher's answers alone, because no layers of the student and the teacher give "
        "feature maps of the same height and width"
    )


def with_teacher(student: Any, teacher: Any, pairs: AttentionPairs) -> Any:
    """A module of both. Only the student's weights are its state, and learn.

    Args:
        student: learns.
        teacher: does not.
        pairs: layers whose features are compared.
    """
    import torch

    class Taught(torch.nn.Module):  # type: ignore[misc]
        """Answers as the student when it is judged, as both when it learns."""

        def __init__(self) -> None:
            super().__init__()
            self.student = student
            self.teacher = teacher.eval().requires_grad_(False)
            self.remark = remark_on(pairs)

        def forward(self, *inputs: Any) -> Any:
            if not self.training:
                return self.student(*inputs)
            with recorded(self.student, pairs.student) as looked:
                answer = self.student(*inputs)
            with torch.no_grad(), recorded(self.teacher, pairs.teacher) as seen:
                wanted = self.teacher(*inputs)
            return Answers(answer, wanted, attention_loss(pairs, looked, seen))

        def train(self, mode: bool = True) -> Any:
            super().train(mode)
            self.teacher.eval()
            return self

        def state_dict(self, *args: Any, **kwargs: Any) -> Any:
            return self.student.state_dict(*args, **kwargs)

        def load_state_dict(self, state: Any, *args: Any, **kwargs: Any) -> Any:
            return self.student.load_state_dict(state, *args, **kwargs)

    return Taught()
