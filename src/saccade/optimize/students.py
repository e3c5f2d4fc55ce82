"""Teach a student and put it in the model's place: raced first, trained if that can pay.

How fast a network is does not depend on its weights, so the student races the model before it is
taught, and one that is no faster is refused before it costs any training. Its teacher is the
user's own model, not what the search has made of it by then.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from saccade.errors import ChangeRefused, ModelError
from saccade.models.files import model_file
from saccade.optimize.change import PlanContext, Student
from saccade.optimize.changes.model_swap import takes_shape
from saccade.optimize.converting import converted
from saccade.optimize.distill import Distillation, Lesson
from saccade.optimize.float_model import float_context, rounded_again
from saccade.optimize.pruning import measured_contest
from saccade.optimize.real_inputs import conversion_request
from saccade.optimize.teachers import TeacherSpec
from saccade.optimize.training_frames import FrameSource
from saccade.optimize.worker import Worker
from saccade.pipeline.config import ModelFile, PipelineConfig, digest
from saccade.statistics import Comparison

SCHOOL = "saccade.optimize.teachers:School"
TRAINING_FRAMES = 256
TIMEOUT_S = 300.0
# Part of a file's name: raised when the same request is carried out in another way.
METHOD = "students 1"
# Weights that know nothing move far, those that know something are moved with care. Statistics of
# batch normalization are collected once, on all frames, in both cases: following batches of eight
# was no better on a planted teacher (distance 1.8 against 0.5 after 300 steps).
FROM_NOTHING = Distillation(learning_rate=2e-3, patience=30)
FROM_TRAINED = Distillation(learning_rate=1e-4)

Contest = Callable[[PlanContext, PipelineConfig], Comparison]


def taught(
    context: PlanContext,
    student: Student,
    contest: Contest | None = None,
    settings: Distillation | None = None,
) -> PipelineConfig:
    """The configuration with the student, taught, and rounded as the model in use is.

    One that was taught already is used again.

    Args:
        context: must know the teacher.
        student: who takes the model's place.
        contest: how the untrained student is raced; by default in worker processes.
        settings: how it is taught; by default for as long as the user allows.

    Raises:
        ChangeRefused: the student is not faster than the model.
        ModelError: it cannot be taught, or not be made into the format in use.
        DataError: there are no frames to learn from.
    """
    return rounded_again(context, taught_float(context, student, contest, settings))


def taught_float(
    context: PlanContext,
    student: Student,
    contest: Contest | None = None,
    settings: Distillation | None = None,
) -> PipelineConfig:
    """As `taught`, before rounding."""
    before = float_context(context)
    if before is None or before.teacher is None:
        raise ModelError("The float model that would have to teach is not known.")
    settings = settings or default_settings(student, context.seed)
    target = taught_path(before, student, settings)
    if not record_path(target).exists():
        context.folder.mkdir(parents=True, exist_ok=True)
        _check_faster(before, student, contest or measured_contest)
        _teach(before, student, settings, target)
    return in_place(before, student, model_file(target))


def default_settings(student: Student, seed: int) -> Distillation:
    """How a student is taught, by what its weights know."""
    start = FROM_TRAINED if student.trained else FROM_NOTHING
    return replace(start, budget_s=student.training_s, seed=seed)


def taught_path(context: PlanContext, student: Student, settings: Distillation) -> Path:
    """Where the taught program is or will be: equal path means equal request."""
    assert context.teacher is not None
    images = context.calibration.digest if context.calibration is not None else context.source
    key = [student.model.sha256, context.teacher.model.sha256, images, asdict(settings), METHOD]
    return context.folder / f"taught-{digest(key)}.pt2"


def record_path(program: Path) -> Path:
    """The document beside a taught program; written last."""
    return program.with_suffix(".lesson.json")


def record_of(program: Path) -> dict[str, Any]:
    """What is on record about a taught program; empty where there is nothing."""
    try:
        found: dict[str, Any] = json.loads(record_path(program).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _check_faster(context: PlanContext, student: Student, contest: Contest) -> None:
    raced = contest(context, in_place(context, student, student.model))
    if raced.verdict != "faster":
        ratio = raced.ratio
        raise ChangeRefused(
            f"the student is not faster here ({ratio.value:.3f} times the speed "
            f"[{ratio.interval.low:.3f}, {ratio.interval.high:.3f}]), so it was not trained"
        )


def _teach(context: PlanContext, student: Student, settings: Distillation, target: Path) -> None:
    teacher = context.teacher
    assert teacher is not None
    described = student.description
    spec = TeacherSpec(
        teacher.model.path,
        teacher.description.own_hw,
        teacher.description.preprocessing,
        described.own_hw,
        described.preprocessing,
    )
    frames = FrameSource.of(replace(context, config=_fed(context, student)))
    partial = target.with_name("partial-" + target.name)
    with Worker(SCHOOL, ()) as worker:
        lesson: Lesson = worker.call(
            "teach",
            student.model.path,
            spec,
            frames,
            TRAINING_FRAMES,
            settings,
            str(partial),
            timeout_s=settings.budget_s + TIMEOUT_S,
        )
    partial.replace(target)
    document = {"student": student.name, "began_trained": student.trained, "lesson": asdict(lesson)}
    record_path(target).write_text(json.dumps(document, indent=1), encoding="utf-8")


def in_place(context: PlanContext, student: Student, program: ModelFile) -> PipelineConfig:
    """The pipeline as it is, with a program of the student's in the format that it runs.

    Raises:
        ModelError: the program cannot be made into that format.
    """
    wanted, placed = context.config.model.format, _fed(context, student)
    if wanted == program.format:
        placed = replace(placed, model=program)
    else:
        request = conversion_request(replace(context, config=placed), placed.runtime)
        placed = replace(placed, model=converted(program, (wanted,), request))
    if wanted == "onnx" and takes_shape(placed, context.frame_hw):
        return placed
    return replace(placed, shape="square", margin=0)


def _fed(context: PlanContext, student: Student) -> PipelineConfig:
    """The pipeline as it is, feeding a student instead; the model is still the old one."""
    described = student.description
    return replace(
        context.config,
        description=described,
        input_size=described.input_size,
        squeeze=1.0,
        # Learnt on the old model's scores.
        dynamic_resolution=None,
    )
