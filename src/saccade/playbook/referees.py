"""The referee that guards accuracy during a search: by labels where there are some."""

from __future__ import annotations

from saccade.goals import Goal
from saccade.optimize.job import Job
from saccade.optimize.race import Runner
from saccade.playbook.final import as_long_as
from saccade.validate.referee import (
    VIDEO_FRAMES,
    AgreementReferee,
    LabelReferee,
    as_dataset,
    frames_of,
    results_on,
)


def search_referee(
    job: Job, guard: Goal, frame_hw: tuple[int, int], runner: Runner
) -> LabelReferee | AgreementReferee:
    """Run the baseline on the selection data; later candidates are compared with that.

    Args:
        job: what is being optimized.
        guard: the goal that bounds the loss of accuracy.
        frame_hw: height and width of the source's frames.
        runner: the baseline, running.
    """
    seed = job.spec.seed
    selection = job.roles.selection if job.roles else None
    if guard.base != "agreement" and selection is not None:
        return LabelReferee(selection, runner, guard.base, guard.bound, seed)
    if selection is not None:
        return AgreementReferee(
            selection, lambda r: results_on(r, selection), runner, guard.bound, seed
        )
    reference = frames_of(runner, VIDEO_FRAMES, "selection")
    frames = as_long_as(as_dataset(job.source, VIDEO_FRAMES, frame_hw), len(reference))
    return AgreementReferee(
        frames, lambda r: frames_of(r, VIDEO_FRAMES, "selection"), runner, guard.bound, seed
    )
