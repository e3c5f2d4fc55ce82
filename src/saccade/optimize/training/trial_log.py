"""Every trial of a training study on record, and told to whoever watches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from saccade.optimize.training.sets import Option, label_of
from saccade.progress import Progress, tell_trial
from saccade.study import Ratio, RunFolder, Trial, Verdict
from saccade.train.config import TrainingConfig

# What a race says of its candidate, as a verdict on the change.
VERDICTS: dict[str, Verdict] = {
    "faster": "better",
    "slower": "worse",
    "not distinguishable": "not distinguishable",
}


@dataclass(frozen=True)
class Outcome:
    """What became of a set of changes.

    Attributes:
        gain: samples per second, over the parent's.
        metrics: measured in the same run.
        how: ``"alone"``, ``"pair"``, ``"together"``, ``"without"``: a race against the same set
            without one change; ``"for memory"`` and ``"given up for memory"``: a race of the system
            with it, or without it; or ``"left out at first"``: nothing was measured.
    """

    verdict: Verdict
    reason: str
    how: str
    gain: Ratio | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    kept: bool = False


class TrialLog:
    """Numbers trials, appends them to ``trials.jsonl`` and reports them.

    Args:
        run: where they are kept.
        progress: who is told.
        environment_hash: of this machine.
    """

    def __init__(self, run: RunFolder, progress: Progress, environment_hash: str) -> None:
        self._run, self._progress = run, progress
        self._environment = environment_hash
        self.trials: list[Trial] = []
        self._on_record = run.trials()
        self._known = {
            (t.parent_hash, t.config_hash, t.details.get("how"), t.details.get("timed")): t
            for t in self._on_record
            if t.environment_hash == environment_hash and t.verdict != "inconclusive"
        }

    @property
    def known_count(self) -> int:
        """How many measurements of earlier runs may be taken over."""
        return len(self._known)

    def known(
        self, parent: TrainingConfig, config: TrainingConfig, how: str, timed: str
    ) -> Trial | None:
        """The same measurement by a run that was interrupted."""
        return self._known.get((parent.hash, config.hash, how, timed))

    def started(self, options: Sequence[Option], how: str) -> None:
        """Tell that a set is tried."""
        predicted = options[0].prediction.gain if len(options) == 1 else None
        self._progress.trial_started(self._next_number(), _named(options, how), predicted)

    def record(
        self,
        options: Sequence[Option],
        parent: TrainingConfig,
        config: TrainingConfig | None,
        timed: str,
        outcome: Outcome,
        wall_s: float = 0.0,
    ) -> Trial:
        """Put a trial on record."""
        first = options[0].prediction if len(options) == 1 else None
        trial = Trial(
            number=self._next_number(),
            parent=0,
            change=_named(options, outcome.how),
            name=options[0].change.name if len(options) == 1 else "set",
            config=config.to_dict() if config is not None else {},
            config_hash=config.hash if config is not None else "",
            parent_hash=parent.hash,
            verdict=outcome.verdict,
            reason=outcome.reason,
            kept=outcome.kept,
            predicted_gain=first.gain if first else None,
            predicted_bound=first.bound if first else None,
            prediction_basis=first.basis if first else "",
            gain=outcome.gain,
            metrics=dict(outcome.metrics),
            wall_s=wall_s,
            environment_hash=self._environment,
            details={
                "how": outcome.how,
                "timed": timed,
                "set": [o.label for o in options],
                "names": [o.change.name for o in options],
            },
        )
        self._run.append_trial(trial)
        return self._add(trial)

    def again(self, trial: Trial) -> Trial:
        """Take over a trial that is on record already."""
        return self._add(trial, known=True)

    def _add(self, trial: Trial, known: bool = False) -> Trial:
        self.trials.append(trial)
        tell_trial(self._progress, trial, known)
        return trial

    def _next_number(self) -> int:
        """One that no trial on record has, of this run or an earlier one."""
        return 1 + max((trial.number for trial in (*self._on_record, *self.trials)), default=0)


def how_of(options: Sequence[Option]) -> str:
    """How a set is measured beside nothing, as `Outcome.how` says it."""
    return {1: "alone", 2: "pair"}.get(len(options), "together")


def _named(options: Sequence[Option], how: str) -> str:
    label = label_of(options)
    if how == "given up for memory":
        return f"without {label}"
    return f"{label} (among the others)" if how == "without" else label
