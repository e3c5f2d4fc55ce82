"""Look at the models that may take the model's place: each by its own preprocessing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from saccade.errors import ModelError, SaccadeError, StorageError
from saccade.models.candidates import candidate_name, classes_differ, full_reference
from saccade.optimize.change import ModelCandidate
from saccade.optimize.job import Job
from saccade.playbook.memory import check_file_fits
from saccade.playbook.model import describe_model
from saccade.playbook.prepare import fits_here, naive, verified
from saccade.progress import Progress
from saccade.spec import Spec
from saccade.study import RunFolder
from saccade.system_settings import CandidateModel, StudentModel

_Named = TypeVar("_Named", CandidateModel, StudentModel)


def with_candidates(job: Job, run: RunFolder, progress: Progress) -> Job:
    """The job with its candidates described and verified.

    One that cannot take the model's place is left out, with a note that says why; the study goes
    on with the rest.

    Raises:
        ModelError: there is no such candidate; that is a slip to correct before anything
            is measured.
        StorageError: the run folder cannot be written.
    """
    found: list[ModelCandidate] = []
    notes: list[str] = []
    for wanted in in_full(job.spec.candidates):
        try:
            candidate, said = _candidate(wanted, job, run, progress)
        except StorageError:
            raise
        except SaccadeError as error:
            notes.append(f"The candidate '{wanted.model}' is left out: {error}")
            progress.note(notes[-1])
            continue
        twin = next((c for c in found if c.config.hash == candidate.config.hash), None)
        if twin is not None or candidate.config.model.sha256 == job.baseline.model.sha256:
            same = f"the candidate {twin.name}" if twin else "the model itself"
            notes.append(f"The candidate '{wanted.model}' is left out: it is {same}.")
            continue
        found.append(_named_apart(candidate, found))
        notes += said
        progress.note(f"candidate {found[-1].name}: {_summary(candidate)}")
    return replace(job, candidates=tuple(found), notes=(*job.notes, *notes))


def in_full(models: Iterable[_Named]) -> list[_Named]:
    """Models that the user named, each by its path or by its library and name.

    Raises:
        ModelError: there is no such model.
    """
    return [m.model_copy(update={"model": full_reference(m.model)}) for m in models]


def _candidate(
    wanted: CandidateModel, job: Job, run: RunFolder, progress: Progress
) -> tuple[ModelCandidate, list[str]]:
    """A candidate, and what was corrected of it or is to be known about it.

    Raises:
        ModelError: it does not fit this machine, is not of the task, or has other classes, or the
            user's own preprocessing is for another model.
    """
    name, spec = candidate_name(wanted.model), spec_of(job.spec, wanted)
    check_file_fits(wanted.model, job.environment.memory_mb)
    described = describe_model(spec, run.path / "models" / f"candidate-{name}")
    # As ONNX, which every runtime that the pipeline may have reached takes or is made from.
    description, model = described.description, described.resolved.nearest_onnx
    different = classes_differ(description.class_names, job.description.class_names)
    if different is not None:
        raise ModelError(
            f"its classes differ: {different}. Give a model that was trained on the same classes."
        )
    if job.spec.preprocessor is not None:
        raise ModelError("your own preprocessing is for the model, not for this one.")
    # The names of the model, whose labels and goals are about; spelling may differ.
    description = replace(description, class_names=job.description.class_names)
    tight = fits_here(spec, described, job.environment)
    notes = [f"The candidate {name}: {tight}."] if tight else []
    if job.roles is not None:
        document = f"verification-{name}.json"
        checked = verified(spec, model, description, job.roles, run, progress, document)
        if checked is not None:
            description = checked.description
            notes += [f"Preprocessing of {name} corrected: {m}" for m in checked.mistakes]
    return ModelCandidate(name, naive(spec, model, description)), notes


def spec_of(spec: Spec, wanted: CandidateModel) -> Spec:
    """The same job for another model: a candidate."""
    return spec.model_copy(
        update={
            "model": wanted.model,
            "weights": wanted.weights,
            "random_weights": False,
            "overrides": wanted.overrides,
            "candidates": (),
        }
    )


def _named_apart(candidate: ModelCandidate, others: list[ModelCandidate]) -> ModelCandidate:
    """Two files of one name in different folders are told apart by their content."""
    if all(other.name != candidate.name for other in others):
        return candidate
    return replace(candidate, name=f"{candidate.name} ({candidate.config.model.sha256[:6]})")


def _summary(candidate: ModelCandidate) -> str:
    config = candidate.config
    return (
        f"{config.description.decode}, {config.input_size} px, "
        f"{len(config.description.class_names)} classes, {config.model.size_mb:.1f} MB"
    )
