"""The referee that guards accuracy during a search: by labels where there are some."""

from __future__ import annotations

from saccade.data.frame_roles import as_dataset
from saccade.goals import Goal
from saccade.optimize.job import Job, absolute_goals, guard_goals
from saccade.optimize.referee import Answering
from saccade.validate.referee import (
    VIDEO_FRAMES,
    AgreementReferee,
    LabelReferee,
    frames_of,
    results_on,
)


def search_referee(
    job: Job, guard: Goal, frame_hw: tuple[int, int], runner: Answering
) -> LabelReferee | AgreementReferee:
    """Run the baseline on the selection data; later candidates are compared with that.

    Args:
        job: what is being optimized.
        guard: the goal that bounds the loss of accuracy.
        frame_hw: height and width of the source's frames.
        runner: the baseline, running.

    Raises:
        DataError: the baseline says nothing that could be judged.
    """
    seed = job.spec.seed
    selection = job.roles.selection if job.roles else None
    if guard.base != "agreement" and selection is not None:
        also = {
            g.base: g.bound for g in guard_goals(job) if g.base not in (guard.base, "agreement")
        }
        absolute = tuple(g for g in absolute_goals(job) if g.base != "agreement")
        return LabelReferee(selection, runner, guard.base, guard.bound, seed, also, absolute)
    if selection is not None:
        return AgreementReferee(
            selection, lambda r: results_on(r, selection), runner, guard.bound, seed
        )
    reference = frames_of(runner, VIDEO_FRAMES, "selection")
    in_a_row = job.baseline.tracker is not None
    frames = as_dataset(job.source, len(reference), frame_hw, in_a_row)
    return AgreementReferee(
        frames, lambda r: frames_of(r, VIDEO_FRAMES, "selection"), runner, guard.bound, seed
    )
