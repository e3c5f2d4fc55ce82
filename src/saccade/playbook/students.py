"""Look at the models that the user's own may teach: PyTorch programs with answers like its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from saccade import plugins
from saccade.errors import ModelError, SaccadeError, StorageError
from saccade.models.candidates import candidate_name, classes_differ
from saccade.models.description import ModelDescription
from saccade.models.sources.contract import ResolvedModel, SourceRequest
from saccade.models.sources.hub import WeightsError
from saccade.models.sources.resolve import resolve_model
from saccade.models.torch_program import looks_untrained
from saccade.optimize.change import Student
from saccade.optimize.job import Job
from saccade.playbook.candidates import in_full
from saccade.playbook.model import images_of
from saccade.progress import Progress
from saccade.spec import Spec
from saccade.study import RunFolder
from saccade.system_settings import StudentModel

PROGRAM = "torch_export"
# What the weights of a trained student fix; all else it takes from its teacher.
PIXEL_VALUES = ("channel_order", "scale", "mean", "std")


def with_students(job: Job, run: RunFolder, progress: Progress) -> Job:
    """The job with its students loaded and described.

    One that cannot be taught is left out, with a note that says why; the study goes on.

    Raises:
        ModelError: there is no such student; that is a slip to correct before anything is measured.
        StorageError: the run folder cannot be written.
    """
    found: list[Student] = []
    notes: list[str] = []
    for wanted in in_full(job.spec.students):
        try:
            student = _student(wanted, job, run)
        except StorageError:
            raise
        except SaccadeError as error:
            notes.append(f"The student '{wanted.model}' is left out: {error}")
            progress.note(notes[-1])
            continue
        found.append(_named_apart(student, found))
        progress.note(_summary(found[-1]))
        if not student.trained:
            notes.append(f"The student {found[-1].name} begins with random weights.")
    return replace(job, students=tuple(found), notes=(*job.notes, *notes))


def untaught(spec: Spec) -> tuple[tuple[str, str], ...]:
    """The students of a job that is measured elsewhere: each with the reason why it is left out.

    Raises:
        ModelError: there is no such student.
    """
    in_full(spec.students)
    reason = (
        "a student is taught only after it was measured to be faster, and a kit for "
        f"'{spec.target}' cannot teach. Teach it with `saccade optimize --target cpu`, or name a "
        "trained model with --candidates."
    )
    return tuple((f"the student '{wanted.model}'", reason) for wanted in spec.students)


def _student(wanted: StudentModel, job: Job, run: RunFolder) -> Student:
    """A student, described.

    Raises:
        InputError: it is no PyTorch model, or its answers are not of the teacher's kind.
    """
    name = candidate_name(wanted.model)
    resolved = _resolved(wanted, job, run.path / "models" / f"student-{name}")
    if resolved.model.format != PROGRAM:
        raise ModelError(
            f"a student is trained, and {Path(resolved.model.path).name} is no PyTorch program. "
            "Give torchvision:NAME, timm:NAME, package.module:factory or a .pt2 file."
        )
    trained = resolved.trained and not looks_untrained(resolved.model.path)
    description = _described(resolved, job, trained)
    graph = resolved.onnx
    return Student(name, resolved.model, graph, description, trained, wanted.training)


def _resolved(wanted: StudentModel, job: Job, folder: Path) -> ResolvedModel:
    """The student's files; with random weights where its library's own cannot be had."""
    request = SourceRequest(
        reference=wanted.model,
        folder=folder,
        weights=wanted.weights,
        input_size=job.description.input_size,
        usual_size=job.description.input_size,
        images=images_of(job.spec),
    )
    try:
        return resolve_model(request)
    except WeightsError:
        return resolve_model(replace(request, random_weights=True))


def _described(resolved: ResolvedModel, job: Job, trained: bool) -> ModelDescription:
    """Fed like the teacher, but for the values of pixels that a trained student expects.

    Raises:
        ModelError: it answers otherwise than the teacher.
    """
    teacher = job.description
    mine: ModelDescription = plugins.load("tasks", job.spec.task).describe(
        resolved.graph, resolved.hints
    )
    different = classes_differ(_unnamed(mine.class_names), teacher.class_names)
    if different is None and _kind(mine.decode) != _kind(teacher.decode):
        different = f"it answers as '{mine.decode}', the model as '{teacher.decode}'"
    if different is not None:
        raise ModelError(
            f"it does not answer as the model does: {different}. Give a factory that builds it "
            "with the model's classes and outputs."
        )
    stated = {name: getattr(mine.preprocessing, name) for name in PIXEL_VALUES}
    known = trained and "mean" in resolved.hints
    return replace(
        mine,
        preprocessing=replace(teacher.preprocessing, **(stated if known else {})),
        class_names=teacher.class_names,
        iou_threshold=teacher.iou_threshold,
    )


def _kind(decode: str) -> str:
    """What answers are; the loss takes logits and probabilities for each other."""
    return decode.replace("probabilities", "logits")


def _unnamed(names: tuple[str, ...]) -> tuple[str, ...]:
    """As many classes without names: whatever a student's called its own, it is taught others."""
    return tuple(f"class_{index}" for index in range(len(names)))


def _named_apart(student: Student, others: list[Student]) -> Student:
    if all(other.name != student.name for other in others):
        return student
    return replace(student, name=f"{student.name} ({student.model.sha256[:6]})")


def _summary(student: Student) -> str:
    began = "trained weights" if student.trained else "random weights"
    return (
        f"student {student.name}: {student.description.input_size} px, "
        f"{student.graph.size_mb:.1f} MB, {began}, at most {student.training_s:.0f} s of training"
    )
