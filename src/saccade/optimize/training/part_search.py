"""Search among the changes of one part, which may help or hinder each other.

Judging each change alone misses pairs: on CPUs with bf16 instructions, ``channels_last`` and bf16
autocast gain little alone and much together. Adding the best next change misses them as well. So
the search begins from all changes at once, takes away what is not needed (each time by a race of
the system with and without it), and looks at single changes and pairs as well: they show the
interactions, and whether a set was missed that is better.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from saccade.errors import SaccadeError, StorageError
from saccade.optimize.training.durations import START_S, racing_s
from saccade.optimize.training.paces import Paces
from saccade.optimize.training.ring import Ring
from saccade.optimize.training.runner import Pace, RacePlan, Timed, TrainingRace, TrainingRunner
from saccade.optimize.training.sets import Option, Set, configured, cost_of, together
from saccade.optimize.training.trial_log import VERDICTS, Outcome
from saccade.prediction import Prediction
from saccade.study import Ratio, Trial
from saccade.train.change import TrainingContext
from saccade.train.config import TrainingConfig
from saccade.train.joining import joined_blocks

# A screened set has to be so much faster than the best one to be raced against it.
CHALLENGE = 1.03
# Of the time that is left, what screening leaves for racing, and racing for screening.
RESERVE = 0.3
# Pairs are of what was kept and of so many of the most promising others.
MORE, MOST_PAIRS = 2, 12


class PartSearch:
    """One part's search.

    Args:
        context: the configuration to start from, and what is known of it.
        options: the changes of the part.
        timed: whether steps are timed with their loading.
        ring: where sets race; its time is the part's.

    Attributes:
        paces: of every set that was measured.
        marginal: label of a change → what it gains among the others.
        expected: label of a change → what it promised among the others.
    """

    def __init__(
        self,
        context: TrainingContext,
        options: Sequence[Option],
        timed: Timed,
        ring: Ring,
    ) -> None:
        self._context, self._options = context, tuple(options)
        self._timed: Timed = timed
        self._ring, self._log, self._time_left = ring, ring.log, ring.time_left
        self.paces = Paces(context, timed, ring)
        self._best: TrainingRunner | None = None
        self.marginal: dict[str, Ratio] = {}
        self.expected: dict[str, Prediction] = {}

    def run(self) -> Set:
        """The set that is fastest, without what does not contribute."""
        if not self._options:
            return ()
        try:
            if self.paces.of(()) is None:
                return ()
            promising = [o for o in self._options if o.prediction.gain >= 1]
            best = self._needed(self._unhindered(self._working(self._in_time(promising))))
            self._screen(best)
            best = self._challenged(best)
            return self._worthwhile(self._extended(best))
        finally:
            self._close_best()

    def _worthwhile(self, best: Set) -> Set:
        """``best`` if it is faster than nothing at all; a search cut short may not have seen it."""
        return best if self.paces.beats_start(best) else ()

    def _in_time(self, promising: list[Option]) -> Set:
        """What goes together and can be made in time; what is not worth its time goes on record."""
        # Each by itself before: to say what goes together, some are made.
        for option in tuple(promising):
            if reason := self._too_dear(option, (option,)):
                self._leave_out(option, reason, promising)
        while True:
            chosen = together(self._context, promising)
            costly = max(chosen, key=cost_of, default=None)
            if costly is None or not (reason := self._too_dear(costly, chosen)):
                return chosen
            self._leave_out(costly, reason, promising)

    def _leave_out(self, option: Option, reason: str, promising: list[Option]) -> None:
        promising.remove(option)
        outcome = Outcome("inconclusive", reason, "left out at first")
        self._log.record((option,), self._context.config, None, self._timed, outcome)

    def _too_dear(self, option: Option, chosen: Set) -> str:
        """Why an option is not made first, as the dearest of a set; empty where it is."""
        if not cost_of(option):
            return ""
        left_s = self._time_left() - START_S
        made = f"to make it takes about {cost_of(option):.0f} s"
        if sum(map(cost_of, chosen)) > left_s:
            return f"{made}, and {max(0.0, left_s):.0f} s are left"
        gain = self._expected(option, tuple(o for o in chosen if o is not option)).gain
        return f"{made}, and beside the others it promises {gain:.2f}x" if gain < 1 else ""

    def _working(self, chosen: Set) -> Set:
        """``chosen`` if it runs; without the changes that fail alone if it does not."""
        if not chosen or self.paces.of(chosen) is not None:
            return chosen
        working = tuple(o for o in chosen if self.paces.of((o,)) is not None)
        while working and len(working) < len(chosen) and self.paces.of(working) is None:
            working = working[:-1]
        return working if self.paces.of(working) is not None else ()

    def _unhindered(self, chosen: Set) -> Set:
        """Where a set brings nothing, the fastest with one change less, if that is faster.

        One change may hinder all others, as workers do that take the cores of the compute; to race
        each of them would cost more time than there is.
        """
        whole = self.paces.of(chosen)
        if len(chosen) < 2 or whole is None or self.paces.beats_start(chosen):
            return chosen
        reserve, found = RESERVE * self._time_left(), [(whole.samples_per_s, chosen)]
        for option in sorted(chosen, key=lambda o: o.prediction.gain):
            fewer = tuple(o for o in chosen if o is not option)
            if self._time_left() - reserve > self.paces.screening_s(fewer):
                pace = self.paces.of(fewer)
                found.append((pace.samples_per_s if pace is not None else 0.0, fewer))
        return max(found, key=lambda measured: measured[0])[1]

    def _screen(self, best: Set) -> None:
        """Measure changes alone and in pairs, as far as the time goes.

        First those of the best set alone, for which racing has left time, then its pairs, of which
        races have shown most; in each case the cheapest first.
        """
        reserve = RESERVE * self._time_left()
        sets: list[Set] = [(o,) for o in self._options]
        others = [o for o in self._options if o not in best and o.prediction.gain >= 1]
        pairs = combinations((*best, *others[:MORE]), 2)
        sets += [p for p in pairs if p[0].change.name != p[1].change.name][:MOST_PAIRS]
        sets.sort(key=lambda s: (any(o not in best for o in s), len(s), sum(map(cost_of, s))))
        for chosen in sets:
            kept_s = 0.0 if len(chosen) == 1 and chosen[0] in best else reserve
            if self._time_left() - kept_s > self.paces.screening_s(chosen):
                self.paces.of(chosen)

    def _needed(self, chosen: Set) -> Set:
        """Take away, one after the other, what the set is as fast without."""
        remaining, most_s = chosen, RESERVE * self._time_left()
        while True:
            reserve = min(most_s, sum(self.paces.screening_s((o,)) for o in remaining))
            # What costs most to make, such as compiling, has to show first that it is needed.
            for option in sorted(remaining, key=lambda o: (-cost_of(o), o.prediction.gain)):
                without = tuple(o for o in remaining if o is not option)
                if without and not self._affordable(without, remaining, reserve):
                    continue
                if not self._contributes(option, remaining, without):
                    remaining = without
                    self._close_best()
                    break
            else:
                return remaining

    def _affordable(self, without: Set, whole: Set, reserve: float = 0.0) -> bool:
        """Whether the time allows to make a set, such as by compiling it, and to race it."""
        if self._known_race(without, whole) is not None:
            return True
        cost_s = sum(map(cost_of, without))
        needed_s = racing_s(cost_s, self.paces.step_s(without), self.paces.step_s(whole))
        return self._time_left() - reserve > needed_s

    def _contributes(self, option: Option, whole: Set, without: Set) -> bool:
        """Race a set against itself without one change; the change has to win."""
        option = replace(option, prediction=self._expected(option, without))
        self.expected[option.label] = option.prediction
        known = self._known_race(without, whole)
        if known is not None:
            self._log.again(known)
            rate = known.metrics.get("samples_per_s")
            if known.gain is not None:
                self.marginal[option.label] = known.gain
                if rate:
                    self.paces.take(without, rate / known.gain.value)
            return known.verdict == "better"
        now = None if without else self.paces.of(whole)
        if now is not None and self.paces.beats_start(whole, times=2):
            gain = now.samples_per_s / self.paces.start.samples_per_s
            spread = 1 + self._ring.resolution
            self.marginal[option.label] = Ratio(gain, gain / spread, gain * spread)
            return True
        result = self._raced(without, whole, option, "without")
        if result is None:
            return False
        ratio = result.comparison.ratio
        self.marginal[option.label] = Ratio(ratio.value, ratio.interval.low, ratio.interval.high)
        return result.comparison.verdict == "faster"

    def _expected(self, option: Option, others: Set) -> Prediction:
        """What a change promises on top of others, in steps as they are timed here."""
        config, profile = self._config(others), self._context.profile
        if config is None:
            return option.prediction
        if self._timed == "synthetic":
            profile = replace(profile, block=profile.synthetic, loader=None)
        here = replace(self._context, config=config, profile=profile)
        applies = option.change.applies(here) is None
        return option.change.predict(here) if applies else option.prediction

    def _known_race(self, before: Set, after: Set) -> Trial | None:
        """The same race of an interrupted run."""
        parent, config = self._config(before), self._config(after)
        if parent is None or config is None:
            return None
        return self._log.known(parent, config, "without", self._timed)

    def _raced(self, before: Set, after: Set, option: Option, how: str) -> TrainingRace | None:
        """Race ``after`` against ``before``; the worker of the larger set stays for the next."""
        parent, config = self._config(before), self._config(after)
        if parent is None or config is None:
            return None
        began = time.monotonic()
        self._log.started((option,), how)
        try:
            candidate = self._kept_runner(config)
            with self._ring.open(parent, self._timed) as reference:
                result = self._ring.race(reference, candidate, RacePlan())
        except SaccadeError as error:
            outcome = Outcome("failed", str(error), how)
            self._log.record((option,), parent, config, self._timed, outcome)
            self._close_best()
            return None
        self.paces.take(before, joined_blocks(result.reference).samples_per_s)
        ratio = result.comparison.ratio
        outcome = Outcome(
            VERDICTS[result.comparison.verdict],
            result.comparison.reason,
            how,
            Ratio(ratio.value, ratio.interval.low, ratio.interval.high),
            Pace.of(joined_blocks(result.candidate)).metrics,
            kept=result.comparison.verdict == "faster",
        )
        self._log.record((option,), parent, config, self._timed, outcome, time.monotonic() - began)
        return result

    def _config(self, chosen: Set) -> TrainingConfig | None:
        try:
            return configured(self._context, chosen)
        except StorageError:
            raise
        except SaccadeError:
            return None

    def _kept_runner(self, config: TrainingConfig) -> TrainingRunner:
        if self._best is None or self._best.config.hash != config.hash:
            self._close_best()
            self._best = self._ring.open(config, self._timed)
        return self._best

    def _close_best(self) -> None:
        if self._best is not None:
            self._best.close()
            self._best = None

    def _challenged(self, best: Set) -> Set:
        """A set seen while screening that is clearly faster takes the place of the best."""
        current = self.paces.of(best)
        fastest, found = self.paces.fastest()
        if current is not None and found.samples_per_s < CHALLENGE * current.samples_per_s:
            return best
        challenger = tuple(o for o in self._options if o.label in fastest)
        if {o.label for o in challenger} == {o.label for o in best} or self._time_left() <= 0:
            return best
        return self._needed(challenger)

    def _extended(self, best: Set) -> Set:
        """Try what is not in the set on top of it; it may pay beside the others."""
        for option in self._options:
            taken, more = {o.change.name for o in best}, (*best, option)
            if option.change.name in taken or self._time_left() <= self.paces.screening_s(more):
                continue
            pace, now = self.paces.of(more), self.paces.of(best)
            promising = pace is not None and now is not None
            if not promising or pace.samples_per_s < now.samples_per_s:  # type: ignore[union-attr]
                continue
            if best and not self._affordable(best, more):
                continue
            if self._contributes(option, more, best):
                best = more
        return best
