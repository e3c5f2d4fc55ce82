"""`Progress`: how long work tells a person what it is doing, without knowing where it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from saccade.study import Trial


class Progress(Protocol):
    """Receives what a run does while it does it. No method may raise or block."""

    def step(self, title: str) -> None:
        """A step of the playbook begins: ``"Baseline"``, ``"Profile"``."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line within the current step."""
        ...

    def trial_started(self, number: int, change: str, predicted_gain: float | None) -> None:
        """A trial begins.

        Args:
            number: the trial's number in the study.
            change: what it changes against its parent.
            predicted_gain: ratio on the objective, above 1 is better; None where unknown.
        """
        ...

    def trial_finished(
        self,
        number: int,
        change: str,
        verdict: str,
        achieved_gain: float | None,
        interval: tuple[float, float] | None,
        reason: str,
    ) -> None:
        """A trial has its verdict.

        Args:
            number: the trial's number in the study.
            change: what it changed against its parent.
            verdict: ``"better"``, ``"worse"``, ``"not distinguishable"``, ``"broke a goal"``,
                ``"failed"`` or ``"inconclusive"``.
            achieved_gain: measured ratio on the objective; None where nothing was measured.
            interval: lower and upper end of its interval.
            reason: one clause for a person.
        """
        ...

    def close(self) -> None:
        """The run is over or was interrupted. Calling it twice is allowed."""
        ...


class SilentProgress:
    """Says nothing."""

    def step(self, title: str) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def trial_started(self, number: int, change: str, predicted_gain: float | None) -> None:
        """Say nothing."""

    def trial_finished(
        self,
        number: int,
        change: str,
        verdict: str,
        achieved_gain: float | None,
        interval: tuple[float, float] | None,
        reason: str,
    ) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Do nothing."""


def tell_trial(progress: Progress, trial: Trial, known: bool = False) -> None:
    """Say what became of a trial; one that is ``known`` was measured by an earlier run."""
    gain = trial.gain
    progress.trial_finished(
        trial.number,
        trial.change,
        trial.verdict,
        gain.value if gain else None,
        (gain.low, gain.high) if gain else None,
        "; ".join(filter(None, (trial.reason, "measured by an earlier run" if known else ""))),
    )
