"""The search for less memory, after that for speed, where a goal on peak memory is missed.

From the fastest configuration on, one change at a time is made that is expected to save memory, or
taken out that is expected to take it, and raced with its loading: what it really saves and what it
costs are seen in the same blocks. Memory adds up where speed does not, so sets need not be tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from saccade.errors import SaccadeError, StorageError
from saccade.goals import Goal
from saccade.optimize.guarded import unforeseen
from saccade.optimize.metrics import Estimate
from saccade.optimize.training.durations import START_S
from saccade.optimize.training.memory_goals import LEAST_SHRINK, needs_less, value_of, why_worth_it
from saccade.optimize.training.ring import Ring
from saccade.optimize.training.runner import RacePlan, TrainingRace, TrainingRunner
from saccade.optimize.training.search import Found, Kept, Saved, rebuilt
from saccade.optimize.training.sets import Option, plan_training
from saccade.optimize.training.trial_log import VERDICTS, Outcome
from saccade.progress import Progress
from saccade.study import Ratio, Trial
from saccade.train.change import TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.memory import PEAKS
from saccade.train.records import TrainingBlock

MetricsOf = Callable[[Sequence[TrainingBlock]], Mapping[str, Estimate]]
# How a trial was made, as `Outcome.how` says it: a change more, or one fewer.
MORE, FEWER = "for memory", "given up for memory"
PLAN = RacePlan(block_s=2.0, min_pairs=2, max_pairs=4)


@dataclass(frozen=True)
class Move:
    """One way to less memory.

    Attributes:
        option: the change that is made, or taken out.
        how: `MORE` or `FEWER`.
        gain: in speed, expected.
        shrink: peak over the peak now, expected.
        config: afterwards.
        kept: afterwards.
    """

    option: Option
    how: str
    gain: float
    shrink: float
    config: TrainingConfig
    kept: tuple[Kept, ...]


class MemorySearch:
    """Search for a configuration that meets the goals on memory.

    Args:
        context: of the baseline, with the goals on memory.
        found: what the search for speed came to.
        goals: all of the run; none of time that is met is lost for memory.
        metrics_of: metrics of blocks.
        ring: where configurations race.
        progress: told what came of it.
    """

    def __init__(
        self,
        context: TrainingContext,
        found: Found,
        goals: Sequence[Goal],
        metrics_of: MetricsOf,
        ring: Ring,
        progress: Progress,
    ) -> None:
        self._context, self._found, self._goals = context, found, tuple(goals)
        self._metrics_of, self._progress = metrics_of, progress
        self._ring, self._log, self._time_left = ring, ring.log, ring.time_left
        self._config, self._kept = found.config, found.kept
        self._now: Mapping[str, Estimate] = {}
        self._refused: set[tuple[str, str]] = set()
        self._tried = False
        self._runner: TrainingRunner | None = None

    def run(self) -> Found:
        """The configuration that comes closest to the goals on memory."""
        if not self._context.memory_goals:
            return self._found
        if self._time_left() < START_S:
            self._progress.note("memory: no time is left to search for less; allow a larger budget")
            return self._found
        try:
            self._now = self._metrics_of([self._reference().block(1)])
            while self._step():
                pass
        except StorageError:
            raise
        except SaccadeError as error:
            self._progress.note(f"memory: the search for less ended early: {error}")
        finally:
            self._close()
        self._tell()
        return replace(self._found, config=self._config, kept=self._kept)

    def _step(self) -> bool:
        """Make one move that brings a goal closer; False where there is none."""
        for goal in self._context.memory_goals:
            if not needs_less(goal, self._now):
                continue
            if any(self._try(move, goal) for move in self._moves(goal)):
                return True
        return False

    def _moves(self, goal: Goal) -> list[Move]:
        """First what is expected to meet the goal, the fastest first; then what saves most."""
        here = self._here()
        moves = [*self._additions(here, goal.metric), *self._removals(here, goal.metric)]
        now = value_of(self._now, goal.metric) or 0.0
        moves = [m for m in moves if (m.how, m.option.label) not in self._refused]
        enough = [m for m in moves if m.shrink * now <= goal.bound]
        rest = [m for m in moves if m not in enough]
        enough.sort(key=lambda m: (-round(m.gain, 2), -m.shrink))
        return [*enough, *sorted(rest, key=lambda m: m.shrink)]

    def _additions(self, here: TrainingContext, metric: str) -> list[Move]:
        found = []
        for option in plan_training(here).options:
            shrink = option.prediction.shrinks.get(metric, 1.0)
            if shrink > LEAST_SHRINK:
                continue
            try:
                with unforeseen():
                    config = option.change.apply(here)
            except StorageError:
                raise
            except SaccadeError:
                continue
            kept = (*self._kept, Kept(option, None, None, None, here.profile))
            found.append(Move(option, MORE, option.prediction.gain, shrink, config, kept))
        return found

    def _removals(self, here: TrainingContext, metric: str) -> list[Move]:
        """Kept changes without which less memory is expected to be needed."""
        found = []
        for item in self._kept:
            grows = item.option.prediction.shrinks.get(metric, 1.0)
            if grows <= 1 / LEAST_SHRINK or item.saved is not None:
                continue
            left = rebuilt([k for k in self._kept if k is not item], self._context)
            cost = item.marginal.value if item.marginal else item.option.prediction.gain
            found.append(Move(item.option, FEWER, 1 / cost, 1 / grows, left.config, left.kept))
        return found

    def _here(self) -> TrainingContext:
        """The configuration now, with the peaks that were measured of it."""
        profile = self._found.profile or self._context.profile
        block = replace(
            profile.block,
            peak_rss_mb=value_of(self._now, "peak_rss_mb") or profile.block.peak_rss_mb,
            peak_device_mb=value_of(self._now, "peak_device_mb"),
        )
        memory = profile.memory_mb or self._context.profile.memory_mb
        profile = replace(profile, block=block, memory_mb=memory)
        return replace(self._context, config=self._config, profile=profile)

    def _try(self, move: Move, goal: Goal) -> bool:
        """Race a move; where it is worth it, it is the configuration from now on."""
        # Slow steps may use up the time while the start is measured; one move is always tried.
        if self._tried and self._time_left() < START_S:
            return False
        self._tried = True
        known = self._log.known(self._config, move.config, move.how, "block")
        if known is not None:
            return self._again(known, move, goal)
        began = time.monotonic()
        self._log.started((move.option,), move.how)
        try:
            candidate = self._ring.open(move.config, "block")
        except SaccadeError as error:
            self._note(move, Outcome("failed", str(error), move.how), began)
            return False
        try:
            result = self._ring.race(self._reference(), candidate, PLAN)
        except SaccadeError as error:
            candidate.close()
            self._close()  # whichever of the two it was
            self._note(move, Outcome("failed", str(error), move.how), began)
            return False
        outcome = self._outcome(result, move, goal)
        self._note(move, outcome, began)
        if not outcome.kept:
            candidate.close()
            return False
        self._close()
        self._runner = candidate
        self._take(move, goal, self._metrics_of(result.candidate), outcome.metrics, outcome.gain)
        return True

    def _outcome(self, result: TrainingRace, move: Move, goal: Goal) -> Outcome:
        before, after = self._metrics_of(result.reference), self._metrics_of(result.candidate)
        ratio = result.comparison.ratio
        kept, reason = why_worth_it(goal, self._goals, before, after, ratio.value)
        verdict = VERDICTS[result.comparison.verdict]
        if kept or verdict == "better":
            verdict = "better" if kept else "not distinguishable"
        values = {n: value_of(after, n) for n in (*PEAKS, "samples_per_s")}
        values |= {f"{name}_before": value_of(before, name) for name in PEAKS}
        gain = Ratio(ratio.value, ratio.interval.low, ratio.interval.high)
        return Outcome(verdict, reason, move.how, gain, values, kept)

    def _again(self, known: Trial, move: Move, goal: Goal) -> bool:
        """The same race of an interrupted run."""
        self._log.again(known)
        if not known.kept:
            self._refused.add((move.how, move.option.label))
            return False
        self._close()
        now = {n: Estimate(known.metrics.get(n)) for n in (*PEAKS, "samples_per_s")}
        self._take(move, goal, now, known.metrics, known.gain)
        return True

    def _take(
        self,
        move: Move,
        goal: Goal,
        now: Mapping[str, Estimate],
        seen: Mapping[str, float | None],
        gain: Ratio | None,
    ) -> None:
        kept, before, after = move.kept, seen[f"{goal.metric}_before"], seen[goal.metric]
        assert before is not None and after is not None
        if move.how == MORE:
            saved = Saved(goal.metric, before, after)
            kept = (*kept[:-1], replace(kept[-1], marginal=gain, saved=saved))
        self._config, self._kept, self._now = move.config, kept, now

    def _note(self, move: Move, outcome: Outcome, began: float) -> None:
        if not outcome.kept:
            self._refused.add((move.how, move.option.label))
        took_s = time.monotonic() - began
        self._log.record((move.option,), self._config, move.config, "block", outcome, took_s)

    def _tell(self) -> None:
        for goal in self._context.memory_goals:
            peak = value_of(self._now, goal.metric)
            if peak is not None and peak > goal.bound:
                what = "time is up" if self._time_left() <= START_S else "nothing else saves enough"
                self._progress.note(f"memory: {peak:.0f} MB, above {goal.name}; {what}")
            elif peak is not None:
                self._progress.note(f"memory: {peak:.0f} MB, within {goal.name}")

    def _reference(self) -> TrainingRunner:
        if self._runner is None:
            self._runner = self._ring.open(self._config, "block")
        return self._runner

    def _close(self) -> None:
        if self._runner is not None:
            self._runner.close()
            self._runner = None
