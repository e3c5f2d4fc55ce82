"""Which of the systems that a search came to stands at the end: one that runs, and is accurate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from saccade.errors import SaccadeError, StorageError
from saccade.pipeline.system import SystemConfig
from saccade.study import Trial

Found = TypeVar("Found")


@dataclass(frozen=True)
class LeftOut:
    """A system that did not run.

    Attributes:
        config: of the system.
        reason: what it said, one sentence.
    """

    config: SystemConfig
    reason: str


def first_standing(
    steps: Sequence[SystemConfig],
    attempt: Callable[[SystemConfig], Found | None],
    reference_alive: Callable[[], bool],
) -> tuple[Found, tuple[LeftOut, ...]]:
    """The first system that runs and stands, and those before it that did not run.

    Args:
        steps: the winner, then what to fall back to, the naive pipelines last.
        attempt: judges and races one; None where it runs and does not stand.
        reference_alive: whether what it is raced against still runs. Where that has failed,
            nothing is known of the candidate.

    Raises:
        SaccadeError: not even the last one runs, the reference failed, or the disk refused.
    """
    left_out: list[LeftOut] = []
    for index, config in enumerate(steps):
        try:
            found = attempt(config)
        except StorageError:
            raise
        except SaccadeError as error:
            if index == len(steps) - 1 or not reference_alive():
                raise
            left_out.append(LeftOut(config, str(error)))
            continue
        if found is not None:
            return found, tuple(left_out)
    raise AssertionError("the last step always stands")


def without(trials: Sequence[Trial], left_out: Sequence[LeftOut]) -> tuple[Trial, ...]:
    """The trials, of which those that led to a system that did not run are no longer kept."""
    reasons = {left.config.hash: left.reason for left in left_out}
    return tuple(
        replace(
            trial,
            kept=False,
            verdict="failed",
            reason=f"{trial.reason}; left out at the end, it did not run: "
            f"{reasons[trial.config_hash]}",
        )
        if trial.kept and trial.config_hash in reasons
        else trial
        for trial in trials
    )
