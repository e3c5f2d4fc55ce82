"""Look at a job whose target is not measured from here; its candidates go into the kit."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from saccade.models.candidates import candidate_name
from saccade.optimize.job import Job
from saccade.playbook.candidates import with_candidates
from saccade.playbook.kit import as_onnx
from saccade.playbook.prepare import prepare
from saccade.progress import Progress
from saccade.spec import Spec
from saccade.study import RunFolder


def prepare_elsewhere(spec: Spec, run: RunFolder, say: Progress) -> Job:
    """The job with its model as ONNX and its candidates described; what is left out is noted.

    Raises:
        SaccadeError: the input is unusable; see `saccade.errors`.
    """
    return as_onnx(with_candidates(prepare(spec, run, say), run, say))


def with_notes(job: Job, notes: tuple[str, ...], say: Progress) -> Job:
    """The job with more notes, which the user is told at once."""
    for note in notes:
        say.note(note)
    return replace(job, notes=(*job.notes, *notes))


def not_in_the_kit(spec: Spec, names: Collection[str]) -> tuple[str, ...]:
    """The candidates that the user names now and that a kit was made without: a note for each.

    Args:
        spec: what the user asks.
        names: of the models in the kit.
    """
    # Two candidates of one file name are told apart by a suffix in brackets.
    known = {name.partition(" (")[0] for name in names}
    return tuple(
        f"The candidate '{wanted.model}' is left out: the kit was made without it. Export the kit "
        "again with --candidates, and measure it."
        for wanted in spec.candidates
        if candidate_name(wanted.model) not in known
    )
