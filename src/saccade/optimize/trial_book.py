"""Trials of a search on record, and what earlier runs with other goals still say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from saccade.goals import Goal
from saccade.measurement import Block
from saccade.optimize.change import Objective, Prediction
from saccade.optimize.referee import Referee
from saccade.optimize.size_goals import SIZES
from saccade.progress import Progress, tell_trial
from saccade.study import RepairStep, RunFolder, Terms, Trial

# These verdicts say nothing of accuracy.
UNJUDGED = ("worse", "not distinguishable", "failed")


class TrialBook:
    """Numbers trials, appends them to ``trials.jsonl``, reports them, and knows earlier runs'.

    Args:
        run: where they are kept.
        progress: who is told.
        terms: what trials are decided by now.
        environment_hash: of this machine.

    Attributes:
        trials: of this run, in order; those that were taken over, too.
        parent: number of the trial that the configuration in use comes from.
    """

    def __init__(
        self, run: RunFolder, progress: Progress, terms: Terms, environment_hash: str
    ) -> None:
        self._run, self._progress, self._terms = run, progress, terms
        self._environment_hash = environment_hash
        self._on_record = run.trials()
        self._known = [
            trial
            for trial in self._on_record
            if trial.environment_hash == environment_hash
            and trial.terms is not None
            and trial.terms.objective == terms.objective
            and trial.verdict != "inconclusive"
        ]
        self.trials: list[Trial] = []
        self.parent = 0

    def draft(
        self,
        label: str,
        name: str,
        parent_hash: str,
        prediction: Prediction | None,
        parts: Sequence[str] = (),
    ) -> Trial:
        """The next trial before anything is known of it."""
        return Trial(
            number=self.next_number,
            parent=self.parent,
            change=label,
            name=name,
            config={},
            config_hash="",
            parent_hash=parent_hash,
            verdict="failed",
            reason="",
            predicted_gain=prediction.gain if prediction else None,
            predicted_bound=prediction.bound if prediction else None,
            prediction_basis=prediction.basis if prediction else "",
            environment_hash=self._environment_hash,
            parts=tuple(parts),
        )

    @property
    def next_number(self) -> int:
        """One that no trial on record has, of this run or an earlier one."""
        return 1 + max((trial.number for trial in (*self._on_record, *self.trials)), default=0)

    def settled(self) -> Iterator[Trial]:
        """Trials of earlier runs that these terms would decide in the same way, in order."""
        return (trial for trial in self._known if still_holds(trial, self._terms))

    def again(self, draft: Trial) -> Trial | None:
        """The settled trial of the same change of the same configuration."""
        same = (t for t in self.settled() if t.change == draft.change)
        return next((t for t in same if t.parent_hash == draft.parent_hash), None)

    def holds(self, known: Trial) -> bool:
        """Whether an earlier run's trial was taken over already."""
        key = (known.change, known.parent_hash)
        return any((trial.change, trial.parent_hash) == key for trial in self.trials)

    def extend_ladder(self, change: str, log: tuple[RepairStep, ...]) -> None:
        """Give the last trial of a change its ladder's whole log.

        Not on disk: why a ladder ended there may no longer hold for the run that goes on from it.
        """
        at = max(i for i, trial in enumerate(self.trials) if trial.change == change)
        self.trials[at] = replace(self.trials[at], repair=log)

    def blocks(self, draft: Trial) -> tuple[Sequence[Block], Sequence[Block]] | None:
        """Reference's and candidate's blocks of the same race by an earlier run."""
        for trial in reversed(self._known):
            same = (trial.parent_hash, trial.config_hash) == (draft.parent_hash, draft.config_hash)
            if same and trial.blocks:
                return trial.parent_blocks, trial.blocks
        return None

    def add(self, trial: Trial, known: bool = False) -> None:
        """Put a finished trial on record; one that is ``known`` is on record already."""
        if known:
            trial = replace(trial, parent=self.parent)
        else:
            trial = replace(trial, terms=self._terms)
            self._run.append_trial(trial)
        self.trials.append(trial)
        if trial.kept:
            self.parent = trial.number
        tell_trial(self._progress, trial, known)


def terms_of(
    objective: Objective, referees: Sequence[Referee | None], goals: Sequence[Goal]
) -> Terms:
    """What trials are decided by.

    Goals on speed count where one is on size: they say what a smaller configuration may cost.
    """
    sized = any(goal.metric in SIZES for goal in goals)
    return Terms(
        objective,
        tuple((referee.metric, referee.allowed) for referee in referees if referee is not None),
        tuple(goal.name for goal in goals if sized and not goal.is_accuracy),
        tuple(goal.name for goal in goals if goal.is_accuracy and not goal.is_drop),
    )


def still_holds(trial: Trial, terms: Terms) -> bool:
    """Whether what was decided about a trial would be decided again by other terms."""
    before, drop = trial.terms, trial.drop
    if before is None or before.objective != terms.objective:
        return False
    if before == terms:
        return True
    if (before.sizes, before.levels) != (terms.sizes, terms.levels):
        return False
    if trial.verdict in UNJUDGED:
        # What could not even be applied may have asked how much accuracy is allowed.
        return bool(trial.config_hash)
    if drop is None:
        # Kept without a drop where there was a guard: both say the same of the same frames.
        return trial.kept and bool(before.guards)
    if len(terms.guards) != 1 or terms.guards[0][0] != drop.metric:
        return False
    allowed = terms.guards[0][1]
    return drop.upper <= allowed if trial.kept else drop.likely > allowed
