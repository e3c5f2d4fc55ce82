"""The repair ladder as the search sees it: what was tried, what it brought, what comes next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from saccade.optimize.change import Optimization, PlanContext, Tried
from saccade.study import RepairStep, Trial

# A rung that broke accuracy or could not be made asks for the next one. One that was too slow does
# not: what lies above leaves more in float.
CLIMBS_AFTER = ("broke a goal", "failed")


class Repair:
    """Follows one change up its ladder."""

    def __init__(self) -> None:
        self._tried: list[Tried] = []
        self._steps: list[RepairStep] = []
        self.forced: Optimization | None = None

    def record(self, change: Optimization, trial: Trial, context: PlanContext) -> Trial:
        """The trial with the ladder's log; afterwards `forced` is what to try next.

        A change that is not the one that was asked for begins a ladder of its own.
        """
        if change != self.forced:
            self._tried, self._steps = [], []
        self.forced = None
        if not change.rung:
            return trial
        broken = trial.verdict == "broke a goal" or bool(self._tried)
        if not broken:
            return trial
        self._steps.append(self._step(change, trial))
        drop = trial.drop.likely if trial.drop is not None else math.inf
        self._tried.append(Tried(change, drop))
        if trial.verdict in CLIMBS_AFTER:
            self.forced = change.next_rung(self._tried, context)
            if self.forced is None:
                self._steps += closed(change.closed_rungs(context))
        return replace(trial, repair=tuple(self._steps))

    def give_up(self, reason: str) -> tuple[str, tuple[RepairStep, ...]] | None:
        """End the ladder below what it asked for; its last change and whole log, if it asked."""
        if self.forced is None:
            return None
        last = self._tried[-1].change.label
        self._steps += closed([(self.forced.rung, f"{self.forced.label}: {reason}")])
        self.forced = None
        return last, tuple(self._steps)

    def _step(self, change: Optimization, trial: Trial) -> RepairStep:
        before = [step.drop_after for step in self._steps if step.drop_after is not None]
        return RepairStep(
            rung=change.rung,
            setting=trial.change,
            drop_before=min(before, default=None),
            drop_after=trial.drop.estimate if trial.drop is not None else None,
            wall_s=trial.wall_s,
            outcome=trial.reason if trial.verdict == "failed" else trial.verdict,
        )


def closed(rungs: Sequence[tuple[str, str]]) -> list[RepairStep]:
    """Steps of the log for rungs that cannot be tried."""
    return [RepairStep(rung, "", None, None, 0.0, reason) for rung, reason in rungs]
