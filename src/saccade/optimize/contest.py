"""Races against the configuration in use, whose worker is kept from one to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, TypeVar

from saccade.errors import SaccadeError, StorageError
from saccade.optimize.change import Objective
from saccade.optimize.guarded import unforeseen
from saccade.optimize.race import RacePlan, RaceResult, Runner, race, raced
from saccade.optimize.trial_book import TrialBook
from saccade.study import Trial

# The next change may be one that is told apart at once.
SEARCH_RACE = RacePlan(share=1 / 6)

AnyRunner = TypeVar("AnyRunner", bound=Runner)


class Contest(Generic[AnyRunner]):
    """Holds the worker of the configuration in use; a winner's takes its place.

    Args:
        start: starts the worker of a configuration.
        book: what earlier runs have raced.
        objective: what is compared.
        resolution: relative difference that this machine can resolve now.
        time_left: seconds until the deadline.
    """

    def __init__(
        self,
        start: Callable[[Any], AnyRunner],
        book: TrialBook,
        objective: Objective,
        resolution: float,
        time_left: Callable[[], float],
    ) -> None:
        self._start, self._book = start, book
        self._objective, self._resolution, self._time_left = objective, resolution, time_left
        self._runner: AnyRunner | None = None

    def reference(self, incumbent: Any) -> AnyRunner:
        """The worker of the configuration in use, started where there is none (any more)."""
        current = self._runner
        if current is None or not current.worker.alive or current.config.hash != incumbent.hash:
            self.close()
            self._runner = current = self._start(incumbent)
        return current

    def hold(
        self,
        incumbent: Any,
        config: Any,
        draft: Trial,
        decide: Callable[[AnyRunner, AnyRunner], Trial],
    ) -> Trial:
        """Start the candidate and let both be compared; keep its worker if it won.

        What fails in the candidate is a verdict. Where the worker of the configuration in use has
        failed, nothing is known of the candidate; the next contest starts that worker again.

        Args:
            incumbent: the configuration in use.
            config: the candidate.
            draft: its trial.
            decide: makes the trial, given the workers of both.
        """
        runner: AnyRunner | None = None
        try:
            reference = self.reference(incumbent)
            runner = self._start(config)
            with unforeseen():
                trial = decide(reference, runner)
        except StorageError:
            _close(runner)
            raise
        except SaccadeError as error:
            trial = self._failed(draft, error)
        except BaseException:
            _close(runner)
            raise
        if trial.kept:
            self.close()
            self._runner = runner
        else:
            _close(runner)
        return trial

    def _failed(self, draft: Trial, error: SaccadeError) -> Trial:
        if self._runner is not None and self._runner.worker.alive:
            return replace(draft, verdict="failed", reason=str(error))
        said = f"the configuration in use failed during the trial: {error}"
        return replace(draft, verdict="inconclusive", reason=said)

    def race(self, reference: AnyRunner, candidate: AnyRunner, draft: Trial) -> RaceResult:
        """Race both; what an earlier run has raced is not raced again."""
        known = self._book.blocks(draft)
        if known is not None:
            return raced(*known, self._objective, self._resolution)
        terms = self._objective, self._resolution, SEARCH_RACE, self._time_left
        return race(reference, candidate, *terms)

    def close(self) -> None:
        """End the worker of the configuration in use."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None


def _close(runner: Runner | None) -> None:
    if runner is not None:
        runner.close()
